{{- /*
What the other templates look at: the chart's values over the library's, checked. Nothing is rendered here.

daebus.context gives, as JSON, `Values`, `Chart`, `Release`, `name` (of every object) and `tag` (of the image). The
library's defaults arrive under `.Values.daebus`; what the chart or its user says at the top level wins.
*/ -}}
{{- define "daebus.context" -}}
{{- $values := mustMergeOverwrite (deepCopy .Values.daebus) (omit (deepCopy .Values) "daebus") -}}
{{- include "daebus.checked" $values -}}
{{- $name := default ($values.service | replace "_" "-") $values.nameOverride -}}
{{- $tag := default .Chart.AppVersion $values.image.tag -}}
{{- $chart := dict "Name" .Chart.Name "Version" .Chart.Version -}}
{{- $release := dict "Name" .Release.Name "Namespace" .Release.Namespace "Service" .Release.Service -}}
{{- dict "Values" $values "Chart" $chart "Release" $release "name" $name "tag" $tag | toJson -}}
{{- end -}}

{{- /* Values of a wrong form, and mixes that would be wired wrongly, stop here, each with its cure. */ -}}
{{- define "daebus.checked" -}}
{{- include "daebus.checkedForms" . -}}
{{- if eq .bus.mode "sidecar" -}}
{{- include "daebus.checkedSidecar" . -}}
{{- else -}}
{{- include "daebus.checkedShared" .bus.shared -}}
{{- end -}}
{{- include "daebus.checkedMemory" (dict "path" "resources" "resources" .resources) -}}
{{- include "daebus.checkedConfig" . -}}
{{- if and .test.route (not .port) -}}
{{- fail "test.route needs HTTP, and port is 0: set port, or leave test.route empty." -}}
{{- end -}}
{{- if and .test.payload (not .test.action) -}}
{{- fail "test.payload is for test.action, which is empty: set test.action, or leave out test.payload." -}}
{{- end -}}
{{- end -}}

{{- /* The schema would say "does not match pattern"; this says what is wanted. */ -}}
{{- define "daebus.checkedForms" -}}
{{- $repository := "[a-z0-9][a-z0-9.-]*(:[0-9]+/[a-z0-9]+([._-]+[a-z0-9]+)*)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*" -}}
{{- $tag := "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}" -}}
{{- $digest := "sha256:[0-9a-f]{64}" -}}
{{- range list
  (list "service" .service "[a-z]([a-z0-9_-]{0,38}[a-z0-9])?" "at most 40 lower-case letters, digits, - and _, a letter first and no - or _ last")
  (list "nameOverride" .nameOverride "([a-z]([a-z0-9-]{0,51}[a-z0-9])?)?" "at most 53 lower-case letters, digits and -, a letter first and no - last")
  (list "image.repository" .image.repository $repository "a name such as registry.local:5000/team/my-service, without tag or digest, which have values of their own")
  (list "image.tag" .image.tag (printf "(%s)?" $tag) "at most 128 letters, digits, ., _ and -")
  (list "image.digest" .image.digest (printf "(%s)?" $digest) "sha256: and 64 hexadecimal digits, as \"docker inspect\" shows them")
  (list "bus.sidecar.image" .bus.sidecar.image (printf "%s(:%s)?(@%s)?" $repository $tag $digest) "an image such as valkey/valkey:8.1-alpine")
  (list "bus.sidecar.maxmemory" .bus.sidecar.maxmemory "[1-9][0-9]*(kb|mb|gb)" "an amount as the server writes it, such as 32mb")
  (list "bus.shared.url" .bus.shared.url "(rediss?://[^\\s/]+(/[0-9]*)?)?" "an address such as redis://daebus-bus:6379/0")
  (list "test.action" .test.action "\\S*" "the name of an action, without white space")
  (list "test.route" .test.route "(/[^\\s?#]*)?" "a path such as /plants/basil/water")
-}}
{{- if not (regexMatch (printf "^(?:%s)$" (index . 2)) (index . 1)) -}}
{{- fail (printf "%s is %q, but has to be %s." (index . 0) (index . 1) (index . 3)) -}}
{{- end -}}
{{- end -}}
{{- if and .port (lt (int .port) 1024) -}}
{{- fail (printf "port is %d, which only root may open: choose one from 1024 to 65535, or 0 for a service without HTTP and WebSocket." (int .port)) -}}
{{- end -}}
{{- if eq (int .port) 9000 -}}
{{- fail "port is 9000, where health and metrics are served: choose another one." -}}
{{- end -}}
{{- end -}}

{{- define "daebus.checkedSidecar" -}}
{{- if gt (int .replicaCount) 1 -}}
{{- fail (printf "bus.mode \"sidecar\" gives each of the %d replicas a bus of its own, and they would never hear each other. Set replicaCount to 1, or install the chart daebus-bus and set bus.mode to \"shared\"." (int .replicaCount)) -}}
{{- end -}}
{{- if .bus.shared.url -}}
{{- fail "bus.shared.url is set, but bus.mode is \"sidecar\", so nobody at that address would be heard: set bus.mode to \"shared\", or leave bus.shared.url empty." -}}
{{- end -}}
{{- $bus := .bus.sidecar -}}
{{- $other := ternary "redis" "valkey" (eq $bus.server "valkey") -}}
{{- if contains $other (base (first (splitList "@" $bus.image))) -}}
{{- fail (printf "bus.sidecar.server is %q, but bus.sidecar.image is %s: set both to the same server, for example %s." $bus.server $bus.image (ternary "valkey and valkey/valkey:8.1-alpine" "redis and redis:8.2-alpine" (eq $bus.server "valkey"))) -}}
{{- end -}}
{{- include "daebus.checkedMemory" (dict "path" "bus.sidecar.resources" "resources" $bus.resources) -}}
{{- if ge (include "daebus.bytes" $bus.maxmemory | int64) (include "daebus.bytes" $bus.resources.limits.memory | int64) -}}
{{- fail (printf "bus.sidecar.maxmemory is %s, but the limit of its memory is %s, so the bus would be killed before it is full: set bus.sidecar.resources.limits.memory to about twice bus.sidecar.maxmemory." $bus.maxmemory $bus.resources.limits.memory) -}}
{{- end -}}
{{- end -}}

{{- define "daebus.checkedMemory" -}}
{{- $requested := .resources.requests.memory -}}
{{- $limit := .resources.limits.memory -}}
{{- if gt (include "daebus.bytes" $requested | int64) (include "daebus.bytes" $limit | int64) -}}
{{- fail (printf "%s.requests.memory is %s, more than the limit of %s: set %s.limits.memory too." .path $requested $limit .path) -}}
{{- end -}}
{{- end -}}

{{- define "daebus.checkedShared" -}}
{{- if not (or .url .existingSecret) -}}
{{- fail "bus.mode \"shared\" needs the address of that bus: set bus.shared.existingSecret (the chart daebus-bus makes the Secret daebus-bus), or bus.shared.url, for example redis://daebus-bus:6379/0." -}}
{{- end -}}
{{- if contains "@" .url -}}
{{- fail "bus.shared.url holds a password, and values can be read by whoever reads the release: put the whole address into a Secret, name it in bus.shared.existingSecret and leave bus.shared.url empty." -}}
{{- end -}}
{{- end -}}

{{- define "daebus.checkedConfig" -}}
{{- $cures := dict
  "DAEBUS_SERVICE" "set service instead"
  "DAEBUS_REDIS_URL" "set bus.mode to \"shared\" and bus.shared instead"
  "DAEBUS_EMBEDDED" "bus.mode says which bus there is"
  "DAEBUS_HTTP_PORT" "set port instead"
  "DAEBUS_WEBSOCKET_PORT" "HTTP and WebSocket share the value port here"
  "DAEBUS_MANAGEMENT_PORT" "it is 9000, which the probes and the Service rely on"
  "DAEBUS_DRAIN_SECONDS" "set drainSeconds instead, and the grace period follows" -}}
{{- range $name, $_ := .config -}}
{{- with get $cures $name -}}
{{- fail (printf "config.%s would not be heeded, because the chart sets that variable itself: %s." $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Bytes in a quantity of memory, as Kubernetes (64Mi, 64M) or the server (64mb) writes it. */ -}}
{{- define "daebus.bytes" -}}
{{- $units := dict "kb" 1024 "mb" 1048576 "gb" 1073741824 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "k" 1000 "M" 1000000 "G" 1000000000 -}}
{{- mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[A-Za-z]+$" .)) -}}
{{- end -}}

{{- /* What finds the service's pods, and nothing else. It never changes: Kubernetes forbids that in a Deployment. */ -}}
{{- define "daebus.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "daebus.labels" -}}
{{ include "daebus.selector" . }}
{{ include "daebus.about" . }}
{{- end -}}

{{- define "daebus.about" -}}
app.kubernetes.io/version: {{ regexReplaceAll "[^A-Za-z0-9]+$" (.tag | replace "+" "_" | trunc 63) "" | quote }}
app.kubernetes.io/part-of: daebus
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "daebus.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ .tag }}
{{- end -}}
{{- end -}}
