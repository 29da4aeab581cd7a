{{- /* All objects of the chart. */ -}}
{{- define "daebus-bus.all" -}}
{{- if ne (toString .Values.enabled) "false" -}}
{{- include "daebus.once" . -}}
{{- $context := include "daebus-bus.context" . | fromJson -}}
{{- /* Rendered only once, since every rendering would generate another new password. */ -}}
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
