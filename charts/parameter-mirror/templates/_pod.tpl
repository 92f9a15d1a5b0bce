{{- define "parameter-mirror.image" -}}
{{- $image := .Values.image -}}
{{- with .Values.global.imageRegistry | default $image.registry }}{{ . }}/{{ end -}}
{{- required "image.repository: there is no public image yet. Build one and name its repository, see docs/getting-started/install.md." $image.repository -}}
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

{{/* The Secrets with the access to Redis: volume name to Secret name. */}}
{{- define "parameter-mirror.redisSecrets" -}}
{{- $mounted := dict -}}
{{- with .Values.redis -}}
{{- range $name, $secret := dict "redis-url" .urlSecret "redis-password" .passwordSecret "redis-ca" .caSecret "redis-client" .clientCertSecret -}}
{{- if $secret.name }}{{ $_ := set $mounted $name $secret.name }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toYaml $mounted -}}
{{- end -}}

{{/* The settings of the operator: of the process that runs, and of the commands that are run beside it. */}}
{{- define "parameter-mirror.env" -}}
- name: PARAMETER_MIRROR_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: PARAMETER_MIRROR_IDENTITY
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: PARAMETER_MIRROR_LEASE, value: {{ include "parameter-mirror.fullname" . }}}
- {name: PARAMETER_MIRROR_KEY_SECRET, value: {{ .Values.keySecret.name | quote }}}
- {name: PARAMETER_MIRROR_LOG_FORMAT, value: {{ .Values.log.format | quote }}}
- {name: PARAMETER_MIRROR_LOG, value: {{ .Values.log.filter | quote }}}
- {name: PARAMETER_MIRROR_SSM_REQUESTS_PER_SECOND, value: {{ .Values.ssmRequestsPerSecond | quote }}}
- {name: PARAMETER_MIRROR_MEMORY_VALUES, value: {{ .Values.memoryValues | quote }}}
{{- if not .Values.secretWatch }}
- {name: PARAMETER_MIRROR_SECRET_WATCH, value: "false"}
{{- end }}
{{- with .Values.clusterName }}
- {name: PARAMETER_MIRROR_CLUSTER_NAME, value: {{ . | quote }}}
{{- end }}
{{- with .Values.watchNamespaces }}
- {name: PARAMETER_MIRROR_WATCH_NAMESPACES, value: {{ join "," . | quote }}}
{{- end }}
{{- with .Values.redis }}
- {name: PARAMETER_MIRROR_REDIS_PREFIX, value: {{ .prefix | quote }}}
{{- if .urlSecret.name }}
- {name: PARAMETER_MIRROR_REDIS_URL_FILE, value: /etc/parameter-mirror/redis-url/{{ .urlSecret.key }}}
{{- end }}
{{- if .username }}
- {name: PARAMETER_MIRROR_REDIS_USERNAME, value: {{ .username | quote }}}
{{- end }}
{{- if .passwordSecret.name }}
- {name: PARAMETER_MIRROR_REDIS_PASSWORD_FILE, value: /etc/parameter-mirror/redis-password/{{ .passwordSecret.key }}}
{{- end }}
{{- with .iam }}
{{- if .cache }}
- {name: PARAMETER_MIRROR_REDIS_IAM_CACHE, value: {{ .cache | quote }}}
- {name: PARAMETER_MIRROR_REDIS_IAM_SERVICE, value: {{ .service | quote }}}
{{- if .region }}
- {name: PARAMETER_MIRROR_REDIS_IAM_REGION, value: {{ .region | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- if .caSecret.name }}
- {name: PARAMETER_MIRROR_REDIS_CA_FILE, value: /etc/parameter-mirror/redis-ca/{{ .caSecret.key }}}
{{- end }}
{{- if .clientCertSecret.name }}
- {name: PARAMETER_MIRROR_REDIS_CERT_FILE, value: /etc/parameter-mirror/redis-client/tls.crt}
- {name: PARAMETER_MIRROR_REDIS_KEY_FILE, value: /etc/parameter-mirror/redis-client/tls.key}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ include "parameter-mirror.tpl" (list . $) }}
{{- end }}
{{- end -}}

{{/* What the operator's container and that of a command beside it have in common. */}}
{{- define "parameter-mirror.container" -}}
{{- $redis := include "parameter-mirror.redisSecrets" . | fromYaml -}}
image: {{ include "parameter-mirror.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env: {{- include "parameter-mirror.env" . | nindent 2 }}
{{- with .Values.extraEnvFrom }}
envFrom: {{- include "parameter-mirror.tpl" (list . $) | nindent 2 }}
{{- end }}
securityContext: {{- toYaml .Values.securityContext | nindent 2 }}
{{- with .Values.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or $redis .Values.extraVolumeMounts }}
volumeMounts:
  {{- range $name, $secret := $redis }}
  - {name: {{ $name }}, mountPath: /etc/parameter-mirror/{{ $name }}, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- include "parameter-mirror.tpl" (list . $) | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What the operator's pods and those of commands beside it have in common. */}}
{{- define "parameter-mirror.pod" -}}
{{- $redis := include "parameter-mirror.redisSecrets" . | fromYaml -}}
serviceAccountName: {{ include "parameter-mirror.serviceAccountName" . }}
# Whatever the service account says: see serviceAccount.automount.
automountServiceAccountToken: true
{{- with include "parameter-mirror.imagePullSecrets" . }}
imagePullSecrets: {{- . | nindent 2 }}
{{- end }}
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- range $field := list "dnsConfig" "hostAliases" "nodeSelector" "tolerations" "affinity" }}
{{- with get $.Values $field }}
{{ $field }}: {{- include "parameter-mirror.tpl" (list . $) | nindent 2 }}
{{- end }}
{{- end }}
{{- if or $redis .Values.extraVolumes }}
volumes:
  {{- range $name, $secret := $redis }}
  # Optional: the operator starts without it, and mirrors that want Redis say that it is missing.
  - {name: {{ $name }}, secret: {secretName: {{ $secret }}, optional: true}}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- include "parameter-mirror.tpl" (list . $) | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}
