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

{{- define "parameter-mirror.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "parameter-mirror.serviceAccountName" -}}
{{- default (include "parameter-mirror.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{/* A value as YAML; its strings may be templates. Arguments: the value, the root. */}}
{{- define "parameter-mirror.tpl" -}}
{{- $value := index . 0 -}}
{{- tpl (kindIs "string" $value | ternary $value (toYaml $value)) (index . 1) -}}
{{- end -}}

{{- define "parameter-mirror.selectorLabels" -}}
app.kubernetes.io/name: {{ include "parameter-mirror.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The name of the pod of `helm test`, in its labels. */}}
{{- define "parameter-mirror.testName" -}}
{{- include "parameter-mirror.name" . | trunc 58 | trimSuffix "-" }}-test
{{- end -}}

{{/* managed-by says Helm here: on Secrets the same label says parameter-mirror and means "written by a mirror". */}}
{{- define "parameter-mirror.ownLabels" -}}
{{ include "parameter-mirror.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "parameter-mirror.labels" -}}
{{- $common := include "parameter-mirror.tpl" (list .Values.commonLabels .) | fromYaml -}}
{{- merge (include "parameter-mirror.ownLabels" . | fromYaml) $common | toYaml -}}
{{- end -}}

{{/*
The metadata of an object. Arguments: root, name, namespace (omitted if the object has none), and labels and annotations beside the
common ones, which they override.
*/}}
{{- define "parameter-mirror.metadata" -}}
{{- $common := include "parameter-mirror.labels" .root | fromYaml -}}
{{- $labels := include "parameter-mirror.tpl" (list (.labels | default dict) .root) | fromYaml -}}
{{- $annotations := mergeOverwrite (deepCopy .root.Values.commonAnnotations) (.annotations | default dict) -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels: {{- mergeOverwrite $common $labels | toYaml | nindent 2 }}
{{- with $annotations }}
annotations: {{- include "parameter-mirror.tpl" (list . $.root) | nindent 2 }}
{{- end }}
{{- end -}}
