{{- /* All objects of a service's chart; its templates/all.yaml and templates/NOTES.txt have one line each. */ -}}
{{- define "daebus.all" -}}
{{- if ne (toString .Values.enabled) "false" -}}
{{- include "daebus.once" . -}}
{{- $context := include "daebus.context" . | fromJson -}}
{{ include "daebus.deployment" $context }}
---
{{ include "daebus.service" $context }}
{{- with include "daebus.serviceAccount" $context }}
---
{{ . }}
{{- end }}
{{- if $context.Values.config }}
---
{{ include "daebus.configMap" $context }}
{{- end }}
---
{{ include "daebus.testPod" $context }}
{{ end -}}
{{- end -}}

{{- /* A copied template would render all objects twice. Values outlive a template, so they remember the first one. */ -}}
{{- define "daebus.once" -}}
{{- with .Values.daebus.renderedBy -}}
{{- if ne . $.Template.Name -}}
{{- fail (printf "%s and %s both render everything: remove the one that is a copy." . $.Template.Name) -}}
{{- end -}}
{{- end -}}
{{- $_ := set .Values.daebus "renderedBy" .Template.Name -}}
{{- end -}}

{{- /* Clients outside the cluster must not reach health and metrics. */ -}}
{{- define "daebus.service" -}}
{{- $ports := list -}}
{{- if .Values.port -}}
{{- $ports = append $ports (dict "name" "http" "port" (int .Values.port) "targetPort" "http") -}}
{{- end -}}
{{- if eq (default "ClusterIP" .Values.serviceObject.type) "ClusterIP" -}}
{{- $ports = append $ports (dict "name" "management" "port" 9000 "targetPort" "management") -}}
{{- end -}}
{{- include "daebus.serviceObject" (dict "context" . "ports" $ports) -}}
{{- end -}}

{{- define "daebus.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "daebus.metadata" (dict "context" .) | nindent 2 }}
data:
  {{- include "daebus.texts" (list .Values.config) | nindent 2 }}
{{- end -}}

{{- /* The notes that Helm prints after an installation. */ -}}
{{- define "daebus.notes" -}}
{{- if ne (toString .Values.enabled) "false" -}}
{{- $context := include "daebus.context" . | fromJson -}}
{{- $values := $context.Values -}}
{{- $namespace := $context.Release.Namespace -}}
{{- $port := int $values.port -}}
{{ $values.service }} {{ $context.tag }}, in the namespace {{ $namespace }}.

{{ if $port -}}
Reach it:   kubectl port-forward -n {{ $namespace }} service/{{ $context.name }} {{ $port }}
            then http://localhost:{{ $port }}; inside the cluster http://{{ $context.name }}:{{ $port }}
{{ else -}}
Reach it:   over its bus only; health and metrics are at http://{{ $context.name }}:9000
{{ end -}}
{{ if eq $values.bus.mode "sidecar" -}}
Its bus:    inside the pod; no other service and no second replica can hear it
            (for that, install daebus-bus and set bus.mode to shared)
{{ else if $values.bus.shared.url -}}
Its bus:    {{ $values.bus.shared.url }}, with every service that uses the same one
{{ else -}}
Its bus:    the one in the Secret {{ $values.bus.shared.existingSecret }}, with every service that uses the same one
{{ end -}}
Test it:    helm test -n {{ $namespace }} {{ $context.Release.Name }}
{{ end -}}
{{- end -}}
