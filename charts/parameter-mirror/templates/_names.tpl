{{/* Refuses values that are valid one by one and make no sense together. */}}
{{- define "parameter-mirror.checks" -}}
{{- if not .Values.enabled -}}
{{- fail "enabled: false has an effect only if a parent chart names it as the condition of its dependency: `condition: parameter-mirror.enabled`." -}}
{{- end -}}
{{- if and .Values.redis.iam.cache .Values.redis.passwordSecret.name -}}
{{- fail "redis.iam.cache and redis.passwordSecret.name exclude each other: the operator signs in with its AWS identity or with a password. Leave one out." -}}
{{- end -}}
{{- end -}}

{{- define "parameter-mirror.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "parameter-mirror.fullname" -}}
{{- $name := include "parameter-mirror.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "parameter-mirror.serviceAccountName" -}}
{{- default (include "parameter-mirror.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "parameter-mirror.selectorLabels" -}}
app.kubernetes.io/name: {{ include "parameter-mirror.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* managed-by says Helm here: on Secrets the same label says parameter-mirror and means "written by a mirror". */}}
{{- define "parameter-mirror.labels" -}}
{{ include "parameter-mirror.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "parameter-mirror.image" -}}
{{- $image := .Values.image -}}
{{- with .Values.global.imageRegistry | default $image.registry }}{{ . }}/{{ end -}}
{{- required "image.repository: there is no public image yet. Build one and name its repository, see docs/install.md." $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{/* A list of {name: ...}; parent charts also write plain names. */}}
{{- define "parameter-mirror.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat (.Values.global.imagePullSecrets | default list) .Values.imagePullSecrets -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- with uniq $secrets }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* What is needed wherever mirrors live: in every namespace, or in each of watchNamespaces. */}}
{{- define "parameter-mirror.mirrorRules" -}}
# The mirrors themselves: get, list, watch to carry them out; patch for the finalizer of redis.deletionPolicy Delete.
- apiGroups: [parameter-mirror.dev]
  resources: [parametermirrors]
  verbs: [get, list, watch, patch]
# Their conditions.
- apiGroups: [parameter-mirror.dev]
  resources: [parametermirrors/status]
  verbs: [patch]
# The target. get: what does it hold; create, update: publish and restore; delete: only by deletionPolicy Delete.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, update, delete]
{{- if .Values.secretWatch }}
# Metadata of Secrets labelled as ours, to see a deletion at once. Kubernetes has no verb for metadata only, so this is
# the price of that; secretWatch: false does without. Without watchNamespaces it also covers the operator's own key Secret.
- apiGroups: [""]
  resources: [secrets]
  verbs: [list, watch]
{{- end }}
# The story of each mirror: create a new event, patch the count of a repeated one.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
