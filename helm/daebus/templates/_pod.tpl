{{- /*
The ways out, the same in every chart on this library: what a platform asks of pods, Services and ServiceAccounts beyond
what Daebus itself needs. Each takes a context, as daebus.context makes it, and renders only what was set.
*/ -}}
{{- define "daebus.serviceAccountName" -}}
{{- $account := .Values.serviceAccount -}}
{{- default (ternary .name "default" (default false $account.create)) $account.name -}}
{{- end -}}

{{- /* The fields of every pod of a chart, including the pod of `helm test`. */ -}}
{{- define "daebus.pod" -}}
serviceAccountName: {{ include "daebus.serviceAccountName" . | quote }}
# A service never calls the cluster's API.
automountServiceAccountToken: {{ default false .Values.serviceAccount.automount }}
# Otherwise a Service named daebus-bus would set variables DAEBUS_BUS_…, which look like settings.
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "daebus.texts" (list .Values.nodeSelector) }}
nodeSelector:
  {{- . | nindent 2 }}
{{- end }}
{{- range $field := list "tolerations" "affinity" "topologySpreadConstraints" "hostAliases" "dnsConfig" }}
{{- with get $.Values $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $field := list "priorityClassName" "runtimeClassName" "schedulerName" "dnsPolicy" }}
{{- with get $.Values $field }}
{{ $field }}: {{ quote . }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Security context and resources of a container of the chart. `resources` replaces those of the service. */ -}}
{{- define "daebus.bounds" -}}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "daebus.extraEnv" -}}
{{- range .Values.extraEnv }}
- name: {{ .name | quote }}
  {{- if .valueFrom }}
  valueFrom:
    {{- toYaml .valueFrom | nindent 4 }}
  {{- else }}
  value: {{ include "daebus.text" .value | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /* `extraInitContainers` or `extraContainers`: those without a security context get the chart's. */ -}}
{{- define "daebus.extraContainers" -}}
{{- $ours := dict "securityContext" (default dict .context.Values.securityContext) -}}
{{- range index .context.Values .which }}
{{ list (hasKey . "securityContext" | ternary . (merge (deepCopy .) $ours)) | toYaml }}
{{- end }}
{{- end -}}

{{- /* The times of a probe; null removes the probe. `probe` is one of startup, liveness and readiness. */ -}}
{{- define "daebus.probes" -}}
{{- range $name, $asks := .asks }}
{{- with get $.context.Values.probes $name }}
{{ $name }}Probe:
  {{- toYaml (merge (deepCopy $asks) .) | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* An emptyDir with a size limit; in memory by default. */ -}}
{{- define "daebus.emptyDir" -}}
emptyDir:
  {{- with omit . "name" }}
  {{- toYaml . | nindent 2 }}
  {{- else }}
  {}
  {{- end }}
{{- end -}}

{{- /* A Service: `context` and `ports`. */ -}}
{{- define "daebus.serviceObject" -}}
{{- $values := .context.Values.serviceObject -}}
{{- $said := dict -}}
{{- with $values.nodePort -}}{{- $_ := set (first $.ports) "nodePort" (int .) -}}{{- end -}}
{{- range $name, $value := omit $values "labels" "annotations" "nodePort" -}}
{{- if $value -}}{{- $_ := set $said $name $value -}}{{- end -}}
{{- end -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "daebus.metadata" (dict "context" .context "labels" $values.labels "annotations" $values.annotations) | nindent 2 }}
spec:
  {{- with $said }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  selector:
    {{- include "daebus.selector" .context | nindent 4 }}
  ports:
    {{- toYaml .ports | nindent 4 }}
{{- end -}}

{{- define "daebus.serviceAccount" -}}
{{- $account := .Values.serviceAccount -}}
{{- if $account.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "daebus.metadata" (dict "context" . "name" (include "daebus.serviceAccountName" .) "annotations" $account.annotations) | nindent 2 }}
automountServiceAccountToken: {{ default false $account.automount }}
{{- end -}}
{{- end -}}

{{- /* Combinations of these values that Kubernetes would refuse or misunderstand. */ -}}
{{- define "daebus.checkedWaysOut" -}}
{{- $values := .Values -}}
{{- range $path, $labels := dict "commonLabels" $values.commonLabels "podLabels" $values.podLabels "serviceObject.labels" $values.serviceObject.labels "test.labels" (default dict $values.test).labels -}}
{{- range $name, $value := $labels -}}
{{- include "daebus.checkedLabel" (dict "path" $path "name" $name "value" (include "daebus.text" $value)) -}}
{{- end -}}
{{- end -}}
{{- range $path := list "extraEnv" "extraVolumes" "extraContainers" "extraInitContainers" -}}
{{- $taken := get (dict "extraVolumes" (list "tmp" "bus" "config" "data" "tls" "tls-client-ca") "extraContainers" (list "service" "bus" "server") "extraInitContainers" (list "service" "bus" "server")) $path | default list -}}
{{- range index $values $path -}}
{{- if has .name $taken -}}
{{- fail (printf "%s: the name %q is there already: choose another one." $path .name) -}}
{{- end -}}
{{- $taken = append $taken .name -}}
{{- end -}}
{{- end -}}
{{- $service := $values.serviceObject -}}
{{- if and $service.nodePort (not (has (default "" $service.type) (list "NodePort" "LoadBalancer"))) -}}
{{- fail (printf "serviceObject.nodePort is %d, but a Service of the type %q has none: set serviceObject.type to NodePort or LoadBalancer." (int $service.nodePort) (default "ClusterIP" $service.type)) -}}
{{- end -}}
{{- end -}}

{{- define "daebus.checkedLabel" -}}
{{- if has .name (list "app.kubernetes.io/name" "app.kubernetes.io/instance") -}}
{{- fail (printf "%s: %s finds the pods, and the chart sets it: set nameOverride for another name." .path .name) -}}
{{- end -}}
{{- $prefix := "([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?" -}}
{{- $word := "[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?" -}}
{{- if not (regexMatch (printf "^%s%s$" $prefix $word) .name) -}}
{{- fail (printf "%s: %q cannot be the name of a label: at most 63 letters, digits, -, _ and ., with a letter or digit at both ends; a domain and / may come before." .path .name) -}}
{{- end -}}
{{- if not (regexMatch (printf "^(%s)?$" $word) .value) -}}
{{- fail (printf "%s.%s is %q, but the value of a label is at most 63 letters, digits, -, _ and ., with a letter or digit at both ends." .path .name .value) -}}
{{- end -}}
{{- end -}}
