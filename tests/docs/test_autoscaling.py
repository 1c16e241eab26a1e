# SPDX-License-Identifier: Apache-2.0
"""The manifests for autoscalers: their fields are those of the APIs, their queries read what is."""

import re
from typing import Annotated, Any, Final, Literal

import msgspec
import pytest
import yaml
from msgspec import Meta

from tests.docs.test_queries import RECORDED, wrong
from tests.support.paths import ROOT
from tests.support.promql import reads

AUTOSCALING: Final = ROOT / "deploy" / "autoscaling"
Seconds = Annotated[int, Meta(ge=0, le=3600)]
Replicas = Annotated[int, Meta(ge=1, le=100)]
Number = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?$")]


class Strict(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """An object without other fields: a misspelt one would be dropped in silence."""


class Metadata(Strict):
    name: str


class Reference(Strict):
    kind: str
    name: str
    api_version: str = "apps/v1"


class ScalingPolicy(Strict):
    type: Literal["Pods", "Percent"]
    value: Annotated[int, Meta(gt=0)]
    period_seconds: Annotated[int, Meta(gt=0, le=1800)]


class ScaleDown(Strict):
    stabilization_window_seconds: Seconds
    policies: list[ScalingPolicy]


class Behavior(Strict):
    scale_down: ScaleDown


class AutoscalerConfig(Strict):
    behavior: Behavior


class Advanced(Strict):
    horizontal_pod_autoscaler_config: AutoscalerConfig


class PrometheusTrigger(Strict):
    server_address: str
    query: str
    threshold: Number


class Trigger(Strict):
    type: Literal["prometheus"]
    metadata: PrometheusTrigger
    metric_type: Literal["AverageValue", "Value"] = "AverageValue"


class ScaledObjectSpec(Strict):
    scale_target_ref: Reference
    min_replica_count: Replicas
    max_replica_count: Replicas
    polling_interval: Seconds
    cooldown_period: Seconds
    advanced: Advanced
    triggers: list[Trigger]


class ScaledObject(Strict):
    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: ScaledObjectSpec


class MetricTarget(Strict):
    type: Literal["AverageValue"]
    average_value: Number


class ExternalMetric(Strict):
    metric: Metadata
    target: MetricTarget


class MetricSpec(Strict):
    type: Literal["External"]
    external: ExternalMetric


class AutoscalerSpec(Strict):
    scale_target_ref: Reference
    min_replicas: Replicas
    max_replicas: Replicas
    behavior: Behavior
    metrics: list[MetricSpec]


class Autoscaler(Strict):
    api_version: Literal["autoscaling/v2"]
    kind: Literal["HorizontalPodAutoscaler"]
    metadata: Metadata
    spec: AutoscalerSpec


class AdapterRule(Strict):
    series_query: str
    resources: dict[Literal["namespaced"], bool]
    name: dict[Literal["as"], str]
    metrics_query: str


def loaded(name: str) -> Any:
    return yaml.safe_load((AUTOSCALING / name).read_text(encoding="utf-8"))


def test_the_scaled_object_has_the_fields_of_kedas_api() -> None:
    found = msgspec.convert(loaded("scaledobject.yaml"), ScaledObject)
    assert found.spec.min_replica_count < found.spec.max_replica_count
    assert len(found.spec.triggers) == 2


def test_the_autoscaler_has_the_fields_of_its_api_and_asks_for_what_the_adapter_offers() -> None:
    found = msgspec.convert(loaded("hpa.yaml"), Autoscaler)
    rules = msgspec.convert(
        loaded("prometheus-adapter.yaml")["rules"]["external"], list[AdapterRule]
    )
    asked = {each.external.metric.name for each in found.spec.metrics}
    assert asked == {rule.name["as"] for rule in rules}
    assert all(re.fullmatch(r"[a-z_]+", name) for name in asked)  # no colon there
    assert {rule.series_query for rule in rules} <= RECORDED
    keda = msgspec.convert(loaded("scaledobject.yaml"), ScaledObject)
    assert found.spec.behavior == keda.spec.advanced.horizontal_pod_autoscaler_config.behavior


def queries() -> list[str]:
    """Return each query of the manifests, the adapter's with its series filled in."""
    keda = msgspec.convert(loaded("scaledobject.yaml"), ScaledObject)
    rules = msgspec.convert(
        loaded("prometheus-adapter.yaml")["rules"]["external"], list[AdapterRule]
    )
    return [trigger.metadata.query for trigger in keda.spec.triggers] + [
        rule.metrics_query.replace("<<.Series>>", rule.series_query) for rule in rules
    ]


@pytest.mark.parametrize("query", queries())
def test_a_query_reads_recorded_series_and_gives_one_number(query: str) -> None:
    found = list(reads(query))
    assert [wrong(read) for read in found] == [None] * len(found)
    assert found
    assert all(read.name in RECORDED for read in found)
    assert re.match(r"(100 \* )?(sum|avg)\(", query)


def test_a_misspelt_field_is_noticed() -> None:
    wrongly = loaded("hpa.yaml")
    wrongly["spec"]["maxReplica"] = 4
    with pytest.raises(msgspec.ValidationError, match="maxReplica"):
        msgspec.convert(wrongly, Autoscaler)


def test_the_page_shows_the_manifest_as_it_is() -> None:
    page = (ROOT / "docs" / "autoscaling.md").read_text(encoding="utf-8")
    shown = yaml.safe_load(re.findall(r"```yaml\n(.+?)```", page, re.DOTALL)[0])["triggers"]
    assert shown == loaded("scaledobject.yaml")["spec"]["triggers"][:1]
