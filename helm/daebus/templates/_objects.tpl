{{- /* All that a service's chart consists of; its templates/all.yaml and templates/NOTES.txt are one line each. */ -}}
{{- define "daebus.all" -}}
{{- $context := include "daebus.context" . | fromJson -}}
{{ include "daebus.deployment" $context }}
---
{{ include "daebus.service" $context }}
---
{{ include "daebus.serviceAccount" $context }}
{{- if $context.Values.config }}
---
{{ include "daebus.configMap" $context }}
{{- end }}
---
{{ include "daebus.testPod" $context }}
{{ end -}}

{{- define "daebus.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  labels:
    {{- include "daebus.labels" . | nindent 4 }}
spec:
  selector:
    {{- include "daebus.selector" . | nindent 4 }}
  ports:
    {{- if .Values.port }}
    - name: http
      port: {{ .Values.port }}
      targetPort: http
    {{- end }}
    - name: management
      port: 9000
      targetPort: management
{{- end -}}

{{- define "daebus.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .name }}
  labels:
    {{- include "daebus.labels" . | nindent 4 }}
automountServiceAccountToken: false
{{- end -}}

{{- define "daebus.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}
  labels:
    {{- include "daebus.labels" . | nindent 4 }}
data:
  {{- range $name, $value := .Values.config }}
  {{ $name }}: {{ $value | quote }}
  {{- end }}
{{- end -}}

{{- /* What Helm prints after an installation. */ -}}
{{- define "daebus.notes" -}}
{{- $context := include "daebus.context" . | fromJson -}}
{{- $values := $context.Values -}}
{{- $namespace := $context.Release.Namespace -}}
{{ $values.service }} {{ $context.tag }}, in the namespace {{ $namespace }}.

{{ if $values.port -}}
Reach it:   kubectl port-forward -n {{ $namespace }} service/{{ $context.name }} {{ $values.port }}
            then http://localhost:{{ $values.port }}; inside the cluster http://{{ $context.name }}:{{ $values.port }}
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
