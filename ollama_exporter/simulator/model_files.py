# SPDX-License-Identifier: Apache-2.0
"""The model files of the simulated host.

Sizes, layers and rates are those of the published files on a mid-range GPU. Load times are for
weights on disk. `compressed` shortens load times for demonstrations; the clock stays real.
"""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Final

MIB: Final = 1 << 20
GIB: Final = 1 << 30


def sha256_of(text: str) -> str:
    """Return the digest of `text`, 64 hex characters."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One set of weights, and how fast a host loads and runs it."""

    weights: str  # `sha256-HEX`, the blob's file name, which identifies a runner
    size: int  # bytes on disk
    family: str
    parameter_size: str
    quantization: str
    train_context: int  # tokens; a larger num_ctx is cut to this
    embedding_length: int
    kv_per_token: int  # bytes of f16 key-value cache per token of context
    load_seconds: float  # from the start of the process until it is ready
    prompt_rate: float  # tokens a second
    token_rate: float  # tokens a second
    capabilities: tuple[str, ...] = ("completion",)

    @property
    def embeds(self) -> bool:
        """Whether it answers with vectors instead of text."""
        return "completion" not in self.capabilities

    def memory(self, num_ctx: int, parallel: int = 1) -> int:
        """Return the bytes of a runner: weights, cache of all slots, compute buffers."""
        context = min(num_ctx, self.train_context)
        return self.size + self.kv_per_token * context * parallel + self.size // 25 + 64 * MIB


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a name stands for: weights, and parameters of the model file."""

    file: ModelFile
    digest: str  # 64 hex characters
    num_ctx: int | None = None  # PARAMETER num_ctx of the model file: counts as explicit
    remote_host: str = ""  # not empty: a cloud model, listed in tags and never scheduled here


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The installed names, in the order of installation."""

    manifests: dict[str, Manifest] = field(default_factory=dict)

    def compressed(self, factor: float) -> "ModelFiles":
        """Return a copy that loads `factor` times as fast."""
        return ModelFiles(
            {
                name: replace(
                    manifest,
                    file=replace(manifest.file, load_seconds=manifest.file.load_seconds / factor),
                )
                for name, manifest in self.manifests.items()
            }
        )


def _manifest(name: str, file: ModelFile, *, remote_host: str = "") -> Manifest:
    return Manifest(file=file, digest=sha256_of(f"manifest of {name}"), remote_host=remote_host)


def recreated(name: str, manifest: Manifest, edition: int) -> Manifest:
    """Return a model that was pulled or created again: same shape, new weights and digest."""
    weights = f"sha256-{sha256_of(f'weights of {name}, edition {edition}')}"
    return replace(
        manifest,
        file=replace(manifest.file, weights=weights),
        digest=sha256_of(f"manifest of {name}, edition {edition}"),
    )


def default_catalogue() -> ModelFiles:
    """Return five common models and a cloud model."""
    mistral = ModelFile(
        weights=f"sha256-{sha256_of('weights of mistral')}",
        size=4_372_824_384,
        family="llama",
        parameter_size="7.2B",
        quantization="Q4_K_M",
        train_context=32768,
        embedding_length=4096,
        kv_per_token=131_072,
        load_seconds=30.0,
        prompt_rate=1200.0,
        token_rate=60.0,
    )
    files = {
        "mistral:latest": mistral,
        "llama3.2:latest": replace(
            mistral,
            weights=f"sha256-{sha256_of('weights of llama3.2')}",
            size=2_019_393_189,
            parameter_size="3.2B",
            train_context=131_072,
            embedding_length=3072,
            kv_per_token=114_688,
            load_seconds=15.0,
            prompt_rate=2500.0,
            token_rate=100.0,
        ),
        "qwen2.5:7b": replace(
            mistral,
            weights=f"sha256-{sha256_of('weights of qwen2.5:7b')}",
            size=4_683_087_332,
            family="qwen2",
            parameter_size="7.6B",
            embedding_length=3584,
            kv_per_token=57_344,
            load_seconds=33.0,
            token_rate=55.0,
        ),
        "nomic-embed-text:latest": ModelFile(
            weights=f"sha256-{sha256_of('weights of nomic-embed-text')}",
            size=274_302_450,
            family="nomic-bert",
            parameter_size="137M",
            quantization="F16",
            train_context=2048,
            embedding_length=768,
            kv_per_token=0,
            load_seconds=3.0,
            prompt_rate=20_000.0,
            token_rate=1.0,
            capabilities=("embedding",),
        ),
        "gemma2:27b": replace(
            mistral,
            weights=f"sha256-{sha256_of('weights of gemma2:27b')}",
            size=15_628_387_458,
            family="gemma2",
            parameter_size="27.2B",
            quantization="Q4_0",
            train_context=8192,
            embedding_length=4608,
            kv_per_token=376_832,
            load_seconds=75.0,
            prompt_rate=400.0,
            token_rate=20.0,
        ),
    }
    manifests = {name: _manifest(name, file) for name, file in files.items()}
    cloud = replace(mistral, weights="", size=384, family="gptoss", parameter_size="120B")
    manifests["gpt-oss:120b-cloud"] = _manifest(
        "gpt-oss:120b-cloud", cloud, remote_host="https://ollama.com:443"
    )
    return ModelFiles(manifests)
