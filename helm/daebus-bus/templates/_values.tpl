{{- /* The input of the other templates as JSON: the result of daebus.context, and the name of the Secret as `secret`. */ -}}
{{- define "daebus-bus.context" -}}
{{- $context := include "daebus.bare" . | fromJson -}}
{{- /* A null that Helm has left means nothing, and a map that was removed is an empty one. */ -}}
{{- $values := dict -}}
{{- range list "image" "persistence" "resources" "test" "serviceObject" "serviceAccount" "probes" -}}
{{- $_ := set $values . dict -}}
{{- end -}}
{{- include "daebus.merge" (dict "below" $values "above" $context.Values) -}}
{{- include "daebus-bus.checked" $values -}}
{{- $name := coalesce $values.fullnameOverride $values.nameOverride "daebus-bus" -}}
{{- $own := dict "Values" $values "name" $name "secret" (default $name $values.existingSecret) "tag" (include "daebus.text" $values.image.tag) -}}
{{- $context = merge $own (omit $context "Values") -}}
{{- include "daebus.checkedWaysOut" $context -}}
{{- toJson $context -}}
{{- end -}}

{{- /* Values of the wrong form, and combinations that would not work, are refused here, each with its cure. */ -}}
{{- define "daebus-bus.checked" -}}
{{- include "daebus.checkedNeeded" (dict "values" . "paths" (list "server" "image.repository" "maxmemory")) -}}
{{- if .persistence.enabled -}}
{{- include "daebus.checkedNeeded" (dict "values" . "paths" (list "persistence.size")) -}}
{{- end -}}
{{- include "daebus.checkedNames" . -}}
{{- $optional := ternary "?" "" (ne (default "" .image.digest) "") -}}
{{- include "daebus.checkedEach" (list
  (list "image.repository" .image.repository (include "daebus.repositoryForm" .) "a name such as valkey/valkey, without tag or digest, which have values of their own")
  (list "image.tag" .image.tag (printf "([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})%s" $optional) "1 to 128 letters, digits, ., _ and -")
  (list "image.digest" .image.digest "(sha256:[0-9a-f]{64})?" "sha256: and 64 hexadecimal digits, as \"docker inspect\" shows them")
  (list "maxmemory" .maxmemory (include "daebus.maxmemoryForm" .) "an amount as the server writes it, such as 64mb"))
-}}
{{- $other := ternary "redis" "valkey" (eq .server "valkey") -}}
{{- if contains $other (base .image.repository) -}}
{{- fail (printf "server is %q, but image.repository is %s: set server to %q too, or take an image of %s." .server .image.repository $other .server) -}}
{{- end -}}
{{- include "daebus.checkedResources" (dict "path" "resources" "resources" .resources) -}}
{{- include "daebus.checkedMaxmemory" (dict "path" "" "maxmemory" .maxmemory "resources" .resources) -}}
{{- end -}}
