{{- /*
What the chart's own Secret holds, as JSON; empty when it makes none.

A password that is there is kept. A new one is made only when the cluster can be asked whether there is one: whatever
renders a chart without asking (helm template, Argo CD) would make another one at each turn. The Secret of this very
release is kept too when `existingSecret` begins to name it: Helm would delete what is no longer rendered.
*/ -}}
{{- define "daebus-bus.secretData" -}}
{{- $context := .context -}}
{{- $root := .root -}}
{{- if or (not $context.Values.existingSecret) (eq $context.secret $context.name) -}}
{{- $found := lookup "v1" "Secret" $root.Release.Namespace $context.name | default dict -}}
{{- $data := default dict $found.data -}}
{{- if $context.Values.existingSecret -}}
{{- $owner := get (default dict (default dict $found.metadata).annotations) "meta.helm.sh/release-name" -}}
{{- ternary $data dict (eq $owner $root.Release.Name) | toJson -}}
{{- else if $data.password -}}
{{- include "daebus-bus.fromPassword" (dict "name" $context.name "password" (b64dec $data.password)) -}}
{{- else if lookup "v1" "Namespace" "" $root.Release.Namespace -}}
{{- include "daebus-bus.fromPassword" (dict "name" $context.name "password" (randAlphaNum 40)) -}}
{{- else -}}
{{- /* Kinds are known only with a cluster, or under Argo CD, which has one but does not look objects up. */ -}}
{{- if $root.Capabilities.APIVersions.Has "v1/Secret" -}}
{{- fail (printf "whether the Secret %q with the bus's password is there cannot be seen: its namespace %s is not there yet, or nobody is asked, as under Argo CD, and then the password would be another one at each turn. Make the namespace first, or make the Secret and name it in existingSecret, as the chart's README says." $context.name $root.Release.Namespace) -}}
{{- end -}}
{{- toJson dict -}}
{{- end -}}
{{- else -}}
{{- toJson dict -}}
{{- end -}}
{{- end -}}

{{- define "daebus-bus.fromPassword" -}}
{{- $data := dict "password" (b64enc .password) -}}
{{- /* The value of DAEBUS_REDIS_URL for services. */ -}}
{{- $_ := set $data "url" (printf "redis://:%s@%s:6379/0" .password .name | b64enc) -}}
{{- /* The server's configuration file. */ -}}
{{- $_ := set $data "server.conf" (printf "requirepass %s\n" .password | b64enc) -}}
{{- toJson $data -}}
{{- end -}}

{{- define "daebus-bus.secretObject" -}}
apiVersion: v1
kind: Secret
metadata:
  {{- include "daebus.metadata" (dict "context" .) | nindent 2 }}
type: Opaque
data:
  {{- toYaml .secretData | nindent 2 }}
{{- end -}}
