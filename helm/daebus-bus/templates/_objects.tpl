{{- /* All that the chart consists of. */ -}}
{{- define "daebus-bus.all" -}}
{{- if ne (toString .Values.enabled) "false" -}}
{{- include "daebus.once" . -}}
{{- $context := include "daebus-bus.context" . | fromJson -}}
{{- /* Once, since a new password is another one each time that it is asked for. */ -}}
{{- $data := include "daebus-bus.secretData" (dict "root" . "context" $context) | fromJson -}}
{{ include "daebus-bus.deployment" (merge (dict "secretData" $data) $context) }}
---
{{ include "daebus.serviceObject" (dict "context" $context "ports" (list (dict "name" "redis" "port" 6379 "targetPort" "redis"))) }}
{{- with include "daebus.serviceAccount" $context }}
---
{{ . }}
{{- end }}
{{- if $data }}
---
{{ include "daebus-bus.secretObject" (merge (dict "secretData" $data) $context) }}
{{- end }}
{{- if $context.Values.persistence.enabled }}
---
{{ include "daebus-bus.claim" $context }}
{{- end }}
---
{{ include "daebus-bus.testPod" $context }}
{{ end -}}
{{- end -}}
