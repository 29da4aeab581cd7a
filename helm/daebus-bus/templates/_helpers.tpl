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

{{- /* Values of a wrong form, and mixes that would be wired wrongly, stop here, each with its cure. */ -}}
{{- define "bus.checked" -}}
{{- range list
  (list "nameOverride" .Values.nameOverride "([a-z]([a-z0-9-]{0,51}[a-z0-9])?)?" "at most 53 lower-case letters, digits and -, a letter first and no - last")
  (list "image.repository" .Values.image.repository "[a-z0-9][a-z0-9.-]*(:[0-9]+/[a-z0-9]+([._-]+[a-z0-9]+)*)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*" "a name such as valkey/valkey, without tag or digest, which have values of their own")
  (list "image.tag" .Values.image.tag "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}" "1 to 128 letters, digits, ., _ and -")
  (list "image.digest" .Values.image.digest "(sha256:[0-9a-f]{64})?" "sha256: and 64 hexadecimal digits, as \"docker inspect\" shows them")
  (list "maxmemory" .Values.maxmemory "[1-9][0-9]*(kb|mb|gb)" "an amount as the server writes it, such as 64mb")
-}}
{{- if not (regexMatch (printf "^(?:%s)$" (index . 2)) (index . 1)) -}}
{{- fail (printf "%s is %q, but has to be %s." (index . 0) (index . 1) (index . 3)) -}}
{{- end -}}
{{- end -}}
{{- $other := ternary "redis" "valkey" (eq .Values.server "valkey") -}}
{{- if contains $other (base .Values.image.repository) -}}
{{- fail (printf "server is %q, but image.repository is %s: set server to %q too, or take an image of %s." .Values.server .Values.image.repository $other .Values.server) -}}
{{- end -}}
{{- $requested := .Values.resources.requests.memory -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- if gt (include "bus.bytes" $requested | int64) (include "bus.bytes" $limit | int64) -}}
{{- fail (printf "resources.requests.memory is %s, more than the limit of %s: set resources.limits.memory too." $requested $limit) -}}
{{- end -}}
{{- if ge (include "bus.bytes" .Values.maxmemory | int64) (include "bus.bytes" $limit | int64) -}}
{{- fail (printf "maxmemory is %s, but the limit of the server's memory is %s, so it would be killed before it is full: set resources.limits.memory to about twice maxmemory." .Values.maxmemory $limit) -}}
{{- end -}}
{{- end -}}

{{- /* Bytes in a quantity of memory, as Kubernetes (64Mi, 64M) or the server (64mb) writes it. */ -}}
{{- define "bus.bytes" -}}
{{- $units := dict "kb" 1024 "mb" 1048576 "gb" 1073741824 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "k" 1000 "M" 1000000 "G" 1000000000 -}}
{{- mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[A-Za-z]+$" .)) -}}
{{- end -}}
