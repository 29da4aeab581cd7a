{{- /* The name of every object: the service's, in the letters that Kubernetes allows. */ -}}
{{- define "daebus.name" -}}
{{- default (.Values.service | replace "_" "-") .Values.nameOverride | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "daebus.selector" -}}
app.kubernetes.io/name: {{ include "daebus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "daebus.labels" -}}
{{ include "daebus.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "daebus.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}
