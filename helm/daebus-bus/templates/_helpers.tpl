{{- define "bus.name" -}}
{{- default "daebus-bus" .Values.nameOverride -}}
{{- end -}}

{{- define "bus.secret" -}}
{{- default (include "bus.name" .) .Values.existingSecret -}}
{{- end -}}

{{- define "bus.selector" -}}
app.kubernetes.io/name: {{ include "bus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "bus.labels" -}}
{{ include "bus.selector" . }}
{{ include "bus.about" . }}
{{- end -}}

{{- define "bus.about" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: daebus
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "bus.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}
{{- end -}}

{{- /* What the server's pod and the one of `helm test` have in common. */ -}}
{{- define "bus.pod" -}}
serviceAccountName: {{ include "bus.name" . }}
# The server talks to the services, never to the cluster's API.
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "bus.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end -}}

{{- /* An error answer, such as LOADING while the append-only file is read, is not healthy: that is what -e is for. */ -}}
{{- define "bus.ping" -}}
exec:
  command:
    - {{ .Values.server }}-cli
    - --no-auth-warning
    - --user
    - probe
    - --pass
    - none
    - -e
    - ping
{{- end -}}

{{- /* Mixes of values that would be wired wrongly stop here, each with its cure. */ -}}
{{- define "bus.checked" -}}
{{- $other := ternary "redis" "valkey" (eq .Values.server "valkey") -}}
{{- if contains $other (base .Values.image.repository) -}}
{{- fail (printf "server is %q, but image.repository is %s: set server to %q too, or take an image of %s." .Values.server .Values.image.repository $other .Values.server) -}}
{{- end -}}
{{- if ge (include "bus.bytes" .Values.maxmemory | int64) (include "bus.bytes" .Values.resources.limits.memory | int64) -}}
{{- fail (printf "maxmemory is %s, but the limit of the server's memory is %s, so it would be killed before it is full: set resources.limits.memory to about twice maxmemory." .Values.maxmemory .Values.resources.limits.memory) -}}
{{- end -}}
{{- end -}}

{{- /* Bytes in a quantity of memory, as Kubernetes (64Mi, 64M) or the server (64mb) writes it. */ -}}
{{- define "bus.bytes" -}}
{{- $units := dict "kb" 1024 "mb" 1048576 "gb" 1073741824 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "k" 1000 "M" 1000000 "G" 1000000000 -}}
{{- mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[A-Za-z]+$" .)) -}}
{{- end -}}
