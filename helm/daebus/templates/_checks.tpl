{{- /* Values of the wrong form, and combinations that would not work, are refused here, each with its cure. */ -}}
{{- define "daebus.checked" -}}
{{- include "daebus.checkedNeeded" (dict "values" . "paths" (list "service" "image.repository" "port" "bus.mode" "drainSeconds")) -}}
{{- include "daebus.checkedForms" . -}}
{{- if eq .bus.mode "sidecar" -}}
{{- include "daebus.checkedSidecar" . -}}
{{- else -}}
{{- include "daebus.checkedShared" .bus.shared -}}
{{- end -}}
{{- include "daebus.checkedResources" (dict "path" "resources" "resources" .resources) -}}
{{- include "daebus.checkedVariables" . -}}
{{- if and .test.route (not .port) -}}
{{- fail "test.route needs HTTP, and port is 0: set port, or leave test.route empty." -}}
{{- end -}}
{{- if and (default dict .tls).existingSecret (not .port) -}}
{{- fail "tls.existingSecret is for the port of HTTP and WebSockets, and port is 0: set port, or leave tls.existingSecret empty." -}}
{{- end -}}
{{- if and (default dict .tls).clientCASecret (not (default dict .tls).existingSecret) -}}
{{- fail "tls.clientCASecret asks clients for certificates, which needs TLS: set tls.existingSecret, or leave tls.clientCASecret empty." -}}
{{- end -}}
{{- if and .test.payload (not .test.action) -}}
{{- fail "test.payload is for test.action, which is empty: set test.action, or leave out test.payload." -}}
{{- end -}}
{{- if and (ne (default "ClusterIP" .serviceObject.type) "ClusterIP") (not .port) -}}
{{- fail (printf "serviceObject.type %q is for a service that can be reached from outside, and port is 0: set port, or leave serviceObject.type as ClusterIP." .serviceObject.type) -}}
{{- end -}}
{{- end -}}

{{- /* null removes a default; these values are required. */ -}}
{{- define "daebus.checkedNeeded" -}}
{{- range $path := .paths -}}
{{- $found := $.values -}}
{{- range splitList "." $path -}}
{{- if not (hasKey $found .) -}}
{{- fail (printf "%s is null, but nothing works without it: give it a value, or leave it out for the default." $path) -}}
{{- end -}}
{{- $found = get $found . -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "daebus.repositoryForm" -}}
[a-z0-9][a-z0-9.-]*(:[0-9]+/[a-z0-9]+([._-]+[a-z0-9]+)*)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*
{{- end -}}

{{- define "daebus.maxmemoryForm" -}}
[1-9][0-9]*([kKmMgG]?[bB]|[kKmMgG])?
{{- end -}}

{{- /* For each value: its path, the value, its form and the form in words. The schema's error would name only a pattern. */ -}}
{{- define "daebus.checkedEach" -}}
{{- range . -}}
{{- $text := include "daebus.text" (index . 1) -}}
{{- if not (regexMatch (printf "^(?:%s)$" (index . 2)) $text) -}}
{{- fail (printf "%s is %q, but has to be %s." (index . 0) $text (index . 3)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "daebus.checkedForms" -}}
{{- $repository := include "daebus.repositoryForm" . -}}
{{- $tag := "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}" -}}
{{- $digest := "sha256:[0-9a-f]{64}" -}}
{{- include "daebus.checkedNames" . -}}
{{- include "daebus.checkedEach" (list
  (list "service" .service "[a-z]([a-z0-9_-]{0,38}[a-z0-9])?" "at most 40 lower-case letters, digits, - and _, a letter first and no - or _ last")
  (list "image.repository" .image.repository $repository "a name such as registry.local:5000/team/my-service, without tag or digest, which have values of their own")
  (list "image.tag" .image.tag (printf "(%s)?" $tag) "at most 128 letters, digits, ., _ and -")
  (list "image.digest" .image.digest (printf "(%s)?" $digest) "sha256: and 64 hexadecimal digits, as \"docker inspect\" shows them")
  (list "bus.sidecar.image" .bus.sidecar.image (printf "(%s(:%s)?(@%s)?)?" $repository $tag $digest) "an image such as valkey/valkey:8.1-alpine")
  (list "bus.sidecar.maxmemory" .bus.sidecar.maxmemory (printf "(%s)?" (include "daebus.maxmemoryForm" .)) "an amount as the server writes it, such as 32mb")
  (list "bus.shared.url" .bus.shared.url "(rediss?://[^\\s/?#]+(/[0-9]*)?(\\?[^\\s#]*)?)?" "an address such as redis://daebus-bus:6379/0")
  (list "test.action" .test.action "\\S*" "the name of an action, without white space")
  (list "test.route" .test.route "(/[^\\s?#]*)?" "a path such as /plants/basil/water"))
-}}
{{- if and .port (lt (int .port) 1024) -}}
{{- fail (printf "port is %d, which only root may open: choose one from 1024 to 65535, or 0 for a service without HTTP and WebSocket." (int .port)) -}}
{{- end -}}
{{- if eq (int .port) 9000 -}}
{{- fail "port is 9000, where health and metrics are served: choose another one." -}}
{{- end -}}
{{- end -}}

{{- /* The names of objects in any chart that uses this library. */ -}}
{{- define "daebus.checkedNames" -}}
{{- $form := "([a-z]([a-z0-9-]{0,51}[a-z0-9])?)?" -}}
{{- $words := "at most 53 lower-case letters, digits and -, a letter first and no - last" -}}
{{- include "daebus.checkedEach" (list
  (list "nameOverride" .nameOverride $form $words)
  (list "fullnameOverride" .fullnameOverride $form $words))
-}}
{{- end -}}

{{- /* The tag may come from the chart's appVersion, which may be any text. */ -}}
{{- define "daebus.checkedTag" -}}
{{- if and (not .image.digest) (not (regexMatch "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$" .tag)) -}}
{{- fail (printf "image.tag is empty, and the chart's appVersion %q cannot be an image's tag: set image.tag or image.digest." .tag) -}}
{{- end -}}
{{- end -}}

{{- define "daebus.checkedSidecar" -}}
{{- include "daebus.checkedNeeded" (dict "values" . "paths" (list "bus.sidecar.image" "bus.sidecar.server" "bus.sidecar.maxmemory")) -}}
{{- if eq (toString .autoscaling.kind) "external" -}}
{{- fail "autoscaling.kind is \"external\", but bus.mode \"sidecar\" gives each replica a bus of its own, and they would never hear each other. Leave autoscaling.kind as \"none\", or install the chart daebus-bus and set bus.mode to \"shared\"." -}}
{{- end -}}
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
{{- include "daebus.checkedResources" (dict "path" "bus.sidecar.resources" "resources" $bus.resources) -}}
{{- include "daebus.checkedMaxmemory" (dict "path" "bus.sidecar." "maxmemory" $bus.maxmemory "resources" $bus.resources) -}}
{{- end -}}

{{- /* Kubernetes refuses requests above the limits, but only when it creates the pods. */ -}}
{{- define "daebus.checkedResources" -}}
{{- $path := .path -}}
{{- $limits := default dict .resources.limits -}}
{{- range $which, $amounts := dict "requests" .resources.requests "limits" $limits -}}
{{- range $name, $_ := $amounts -}}
{{- if not (regexMatch "^(cpu|memory|ephemeral-storage|hugepages-.+|[^/]+/[^/]+)$" $name) -}}
{{- fail (printf "%s.%s: %q is no resource that Kubernetes has: there are cpu, memory, ephemeral-storage, hugepages-2Mi and the like, and with a domain what nodes offer beyond, such as nvidia.com/gpu." $path $which $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $requested := .resources.requests -}}
{{- $limit := get $limits $name -}}
{{- if and (include "daebus.text" $requested) (include "daebus.text" $limit) -}}
{{- if gt (include "daebus.amount" $requested | float64) (include "daebus.amount" $limit | float64) -}}
{{- fail (printf "%s.requests.%s is %s, more than the limit of %s: set %s.limits.%s too." $path $name (include "daebus.text" $requested) (include "daebus.text" $limit) $path $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "daebus.checkedMaxmemory" -}}
{{- with include "daebus.text" (default dict .resources.limits).memory -}}
{{- if ge (include "daebus.serverBytes" $.maxmemory | float64) (include "daebus.amount" . | float64) -}}
{{- fail (printf "%smaxmemory is %s, but the limit of the server's memory is %s, so it would be killed before it is full: set %sresources.limits.memory to about twice %smaxmemory." $.path (include "daebus.text" $.maxmemory) . $.path $.path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "daebus.checkedShared" -}}
{{- if not (or .url .existingSecret) -}}
{{- fail "bus.mode \"shared\" needs the address of that bus: set bus.shared.existingSecret (the chart daebus-bus makes the Secret daebus-bus), or bus.shared.url, for example redis://daebus-bus:6379/0." -}}
{{- end -}}
{{- if and (not .url) (not .key) -}}
{{- fail "bus.shared.key is empty: name the key of the Secret whose value is the address, such as url." -}}
{{- end -}}
{{- if regexMatch "@|[?&](ssl_)?password=" (default "" .url) -}}
{{- fail "bus.shared.url holds a password, and values can be read by whoever reads the release: put the whole address into a Secret, name it in bus.shared.existingSecret and leave bus.shared.url empty." -}}
{{- end -}}
{{- end -}}

{{- /* Variables that the chart itself sets win, so a value of the user for them would have no effect. */ -}}
{{- define "daebus.checkedVariables" -}}
{{- $cures := dict
  "DAEBUS_SERVICE" "set service instead"
  "DAEBUS_REDIS_URL" "set bus.mode to \"shared\" and bus.shared instead"
  "DAEBUS_EMBEDDED" "bus.mode says which bus there is"
  "DAEBUS_HTTP_PORT" "set port instead"
  "DAEBUS_WEBSOCKET_PORT" "HTTP and WebSocket share the value port here"
  "DAEBUS_MANAGEMENT_PORT" "it is 9000, which the probes and the Service rely on"
  "DAEBUS_DRAIN_SECONDS" "set drainSeconds instead, and the grace period follows" -}}
{{- if (default dict .tls).existingSecret -}}
{{- $cures = merge $cures (dict "DAEBUS_TLS_CERT" "tls.existingSecret has it" "DAEBUS_TLS_KEY" "tls.existingSecret has it") -}}
{{- end -}}
{{- if (default dict .tls).clientCASecret -}}
{{- $cures = merge $cures (dict "DAEBUS_TLS_CLIENT_CA" "tls.clientCASecret has it") -}}
{{- end -}}
{{- range $name, $_ := .config -}}
{{- with get $cures $name -}}
{{- fail (printf "config.%s would be ignored, because the chart sets that variable itself: %s." $name .) -}}
{{- end -}}
{{- end -}}
{{- range .extraEnv -}}
{{- $name := .name -}}
{{- with get $cures $name -}}
{{- fail (printf "extraEnv: %s is set by the chart itself: %s." $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
