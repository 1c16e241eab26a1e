{{- define "ollama-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "ollama-exporter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "ollama-exporter.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "ollama-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "ollama-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ollama-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "ollama-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "ollama-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "ollama-exporter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "ollama-exporter.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Whether the metrics' port has a file of locks, and the Secret that holds it. */}}
{{- define "ollama-exporter.webConfigSecret" -}}
{{- if .Values.webConfig.existingSecret -}}
{{- .Values.webConfig.existingSecret -}}
{{- else if .Values.webConfig.content -}}
{{- printf "%s-web" (include "ollama-exporter.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* The probes: their scheme follows the locks. */}}
{{- define "ollama-exporter.probe" -}}
{{- $probe := deepCopy .probe -}}
{{- if and .tls $probe.httpGet (not $probe.httpGet.scheme) -}}
{{- $_ := set $probe.httpGet "scheme" "HTTPS" -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}

{{- define "ollama-exporter.isTls" -}}
{{- if .Values.webConfig.content -}}
{{- if .Values.webConfig.content.tls_server_config -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels of what is not the exporter: neither Service nor monitors may find it. */}}
{{- define "ollama-exporter.testLabels" -}}
app.kubernetes.io/name: {{ printf "%s-test" (include "ollama-exporter.name" . | trunc 58) }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The instance of all series: a name that outlives the pod and its address. Call it with (list "service" .) or
(list "pod" .). Without it each new pod would begin new series, and alerts would name an address. */}}
{{- define "ollama-exporter.instanceLabel" -}}
{{- $kind := first . -}}
{{- $mode := (last .).Values.mode -}}
{{- if eq $mode "daemonset" -}}
- sourceLabels: [__meta_kubernetes_pod_node_name]
{{- else if eq $mode "sidecar" -}}
- sourceLabels: [__meta_kubernetes_namespace, __meta_kubernetes_pod_name]
  separator: /
{{- else if eq $kind "service" -}}
- sourceLabels: [__meta_kubernetes_namespace, __meta_kubernetes_service_name]
  separator: /
{{- else -}}
- sourceLabels: [__meta_kubernetes_namespace, __meta_kubernetes_pod_label_app_kubernetes_io_instance]
  separator: /
{{- end }}
  targetLabel: instance
{{- end -}}

{{/* A file of rules or a dashboard, whose links lead to the runbooks. */}}
{{- define "ollama-exporter.linked" -}}
{{- $text := first . -}}
{{- with last . -}}
{{- $text = replace "https://ollama-exporter.example/runbooks/" (printf "%s/" (trimSuffix "/" .)) $text -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* The pod: the same for a Deployment and a DaemonSet. */}}
{{- define "ollama-exporter.pod" -}}
metadata:
  labels:
    {{- include "ollama-exporter.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ toYaml .Values.config | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "ollama-exporter.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- if .Values.hostPID }}
  hostPID: true
  {{- end }}
  {{- if .Values.hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    {{- include "ollama-exporter.container" . | nindent 4 }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with (include "ollama-exporter.volumes" .) }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
{{- end -}}

{{- define "ollama-exporter.container" -}}
- name: ollama-exporter
  image: {{ include "ollama-exporter.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args:
    {{- if .Values.config }}
    - --config.file=/etc/ollama-exporter/config/config.yaml
    {{- end }}
    {{- if include "ollama-exporter.webConfigSecret" . }}
    - --web.config.file=/etc/ollama-exporter/web/web.yml
    {{- end }}
    {{- if .Values.ollama.tokenSecret.name }}
    - --ollama.token-file=/etc/ollama-exporter/ollama-token/{{ .Values.ollama.tokenSecret.key }}
    {{- end }}
    {{- if .Values.proxy.enabled }}
    - --proxy.listen-address=:{{ .Values.proxy.port }}
    {{- end }}
    {{- if and .Values.proxy.enabled .Values.proxy.tokenSecret.name }}
    - --proxy.token-file=/etc/ollama-exporter/proxy-token/{{ .Values.proxy.tokenSecret.key }}
    {{- end }}
    {{- if .Values.state.enabled }}
    - --state.file=/var/lib/ollama-exporter/state.json
    {{- end }}
    {{- /* The server's address is not loopback there. Beside targets the setting is refused. */}}
    {{- if and .Values.hostPID (not (or (hasKey .Values.config "collector.processes") (hasKey .Values.config "targets") (hasKey .Values.config "targets-dir"))) }}
    - --collector.processes=on
    {{- end }}
    {{- range .Values.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - name: NODE_IP
      valueFrom:
        fieldRef:
          fieldPath: status.hostIP
    - name: OLLAMA_HOST
      value: {{ .Values.ollama.url | quote }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - name: metrics
      containerPort: 11487
    {{- if .Values.proxy.enabled }}
    - name: proxy
      containerPort: {{ .Values.proxy.port }}
    {{- end }}
  {{- $tls := include "ollama-exporter.isTls" . }}
  {{- with .Values.livenessProbe }}
  livenessProbe:
    {{- include "ollama-exporter.probe" (dict "probe" . "tls" $tls) | nindent 4 }}
  {{- end }}
  {{- with .Values.readinessProbe }}
  readinessProbe:
    {{- include "ollama-exporter.probe" (dict "probe" . "tls" $tls) | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  {{- with (include "ollama-exporter.mounts" .) }}
  volumeMounts:
    {{- . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "ollama-exporter.mounts" -}}
{{- $mounts := list -}}
{{- if .Values.config -}}
{{- $mounts = append $mounts (dict "name" "config" "mountPath" "/etc/ollama-exporter/config" "readOnly" true) -}}
{{- end -}}
{{- if include "ollama-exporter.webConfigSecret" . -}}
{{- $mounts = append $mounts (dict "name" "web" "mountPath" "/etc/ollama-exporter/web" "readOnly" true) -}}
{{- end -}}
{{- if .Values.ollama.tokenSecret.name -}}
{{- $mounts = append $mounts (dict "name" "ollama-token" "mountPath" "/etc/ollama-exporter/ollama-token" "readOnly" true) -}}
{{- end -}}
{{- if and .Values.proxy.enabled .Values.proxy.tokenSecret.name -}}
{{- $mounts = append $mounts (dict "name" "proxy-token" "mountPath" "/etc/ollama-exporter/proxy-token" "readOnly" true) -}}
{{- end -}}
{{- if .Values.state.enabled -}}
{{- $mounts = append $mounts (dict "name" "state" "mountPath" "/var/lib/ollama-exporter") -}}
{{- end -}}
{{- $mounts = concat $mounts .Values.extraVolumeMounts -}}
{{- if $mounts -}}
{{- toYaml $mounts -}}
{{- end -}}
{{- end -}}

{{- define "ollama-exporter.volumes" -}}
{{- $volumes := list -}}
{{- if .Values.config -}}
{{- $volumes = append $volumes (dict "name" "config" "configMap" (dict "name" (include "ollama-exporter.fullname" .))) -}}
{{- end -}}
{{- with (include "ollama-exporter.webConfigSecret" .) -}}
{{- $volumes = append $volumes (dict "name" "web" "secret" (dict "secretName" .)) -}}
{{- end -}}
{{- with .Values.ollama.tokenSecret.name -}}
{{- $volumes = append $volumes (dict "name" "ollama-token" "secret" (dict "secretName" .)) -}}
{{- end -}}
{{- if and .Values.proxy.enabled .Values.proxy.tokenSecret.name -}}
{{- $volumes = append $volumes (dict "name" "proxy-token" "secret" (dict "secretName" .Values.proxy.tokenSecret.name)) -}}
{{- end -}}
{{- if .Values.state.enabled -}}
{{- if .Values.state.existingClaim -}}
{{- $volumes = append $volumes (dict "name" "state" "persistentVolumeClaim" (dict "claimName" .Values.state.existingClaim)) -}}
{{- else -}}
{{- $volumes = append $volumes (dict "name" "state" "emptyDir" (dict)) -}}
{{- end -}}
{{- end -}}
{{- $volumes = concat $volumes .Values.extraVolumes -}}
{{- if $volumes -}}
{{- toYaml $volumes -}}
{{- end -}}
{{- end -}}
