{{- /*
What the other templates look at: the chart's values over the library's, checked. Nothing is rendered here.

daebus.context gives, as JSON, `Values`, `Chart`, `Release`, `name` (of every object) and `tag` (of the image). The
library's defaults are in its file defaults.yaml, not among Helm's values, so that all there is in `.Values` was set by
the chart or by its user.
*/ -}}
{{- define "daebus.context" -}}
{{- $context := include "daebus.bare" . | fromJson -}}
{{- $values := fromYaml (.Subcharts.daebus.Files.Get "defaults.yaml") -}}
{{- include "daebus.merge" (dict "below" $values "above" $context.Values) -}}
{{- include "daebus.checked" $values -}}
{{- $alias := ternary "" (.Chart.Name | lower | replace "_" "-") (and .Chart.IsRoot true) -}}
{{- $named := coalesce $values.fullnameOverride $values.nameOverride $alias ($values.service | replace "_" "-") -}}
{{- $tag := include "daebus.tag" (dict "image" $values.image "appVersion" .Chart.AppVersion) -}}
{{- include "daebus.checkedTag" (dict "image" $values.image "tag" $tag) -}}
{{- $context = merge (dict "Values" $values "name" $named "tag" $tag) (omit $context "Values") -}}
{{- include "daebus.checkedWaysOut" $context -}}
{{- toJson $context -}}
{{- end -}}

{{- /* The context of every chart that uses this library, even one with values of its own: `Values`, `Chart`, `Release`. */ -}}
{{- define "daebus.bare" -}}
{{- include "daebus.checkedVersion" . -}}
{{- range $name, $_ := omit (default dict .Values.daebus) "global" "renderedBy" -}}
{{- fail (printf "daebus.%s would be ignored: values stand at the top level, so set %s instead." $name $name) -}}
{{- end -}}
{{- $chart := dict "Name" .Chart.Name "Version" .Chart.Version -}}
{{- $release := dict "Name" .Release.Name "Namespace" .Release.Namespace "Service" .Release.Service -}}
{{- dict "Values" (omit .Values "daebus") "Chart" $chart "Release" $release | toJson -}}
{{- end -}}

{{- define "daebus.version" -}}
0.1.0
{{- end -}}

{{- /* Helm knows templates only by name, in a chart and all its dependencies: of two library versions only one would be
       used, for both services. */ -}}
{{- define "daebus.checkedVersion" -}}
{{- $own := .Subcharts.daebus.Chart.Version -}}
{{- $renders := include "daebus.version" . -}}
{{- if ne $own $renders -}}
{{- fail (printf "%s has version %s of the library daebus inside, but version %s, from another chart beside it, would render it. Bring the charts of one release to the same version, with \"copier update\" in their repositories, or install them as releases of their own." .Chart.Name $own $renders) -}}
{{- end -}}
{{- end -}}

{{- /* Merges `above` over `below`, in place. As in Helm, null removes the value below; a map becomes an empty one. */ -}}
{{- define "daebus.merge" -}}
{{- $below := .below -}}
{{- range $name, $value := .above -}}
{{- $old := get $below $name -}}
{{- if kindIs "invalid" $value -}}
{{- if kindIs "map" $old -}}{{- $_ := set $below $name dict -}}{{- else -}}{{- $_ := unset $below $name -}}{{- end -}}
{{- else if and (kindIs "map" $value) (kindIs "map" $old) -}}
{{- include "daebus.merge" (dict "below" $old "above" $value) -}}
{{- else -}}
{{- $_ := set $below $name $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A text unchanged, and a number or boolean as a user would type it: Helm prints numbers from a million on as 1e+06. */ -}}
{{- define "daebus.text" -}}
{{- if kindIs "string" . -}}{{ . }}{{- else if not (kindIs "invalid" .) -}}{{ toJson . }}{{- end -}}
{{- end -}}

{{- /* Several maps merged into one of texts; later ones win. Null removes a name. */ -}}
{{- define "daebus.texts" -}}
{{- $texts := dict -}}
{{- range . -}}
{{- range $name, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}{{- $_ := set $texts $name (include "daebus.text" $value) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if $texts -}}{{ toYaml $texts }}{{- end -}}
{{- end -}}

{{- /* A quantity in the form of Kubernetes as a number: 64Mi, 0.5Gi, 1e3, 100m, 128974848. */ -}}
{{- define "daebus.amount" -}}
{{- $text := include "daebus.text" . -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- if regexMatch "[eE][+-]?[0-9]+$" $text -}}
{{- float64 $text -}}
{{- else -}}
{{- $units := dict "n" 1e-9 "u" 1e-6 "m" 1e-3 "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit) -}}
{{- end -}}
{{- end -}}

{{- /* A memory size in the form of Valkey and Redis as a number: 64mb, 64M, 67108864. */ -}}
{{- define "daebus.serverBytes" -}}
{{- $text := include "daebus.text" . | lower -}}
{{- $units := dict "" 1 "b" 1 "k" 1000 "kb" 1024 "m" 1000000 "mb" 1048576 "g" 1000000000 "gb" 1073741824 -}}
{{- mulf (regexFind "^[0-9]+" $text | float64) (get $units (regexFind "[a-z]*$" $text)) -}}
{{- end -}}

{{- /* The labels that select only the pods. They never change: a Deployment's selector is immutable. */ -}}
{{- define "daebus.selector" -}}
app.kubernetes.io/name: {{ .name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- /* The labels of every object of a context. */ -}}
{{- define "daebus.labels" -}}
{{- include "daebus.allLabels" (dict "context" . "name" .name) -}}
{{- end -}}

{{- /* The same with another `name`, for objects that the selector must not match, and with `more` labels. */ -}}
{{- define "daebus.allLabels" -}}
{{- $context := .context -}}
{{- $chart := printf "%s-%s" $context.Chart.Name $context.Chart.Version -}}
{{- $about := dict
  "app.kubernetes.io/version" (include "daebus.labelValue" $context.tag)
  "app.kubernetes.io/part-of" "daebus"
  "app.kubernetes.io/managed-by" $context.Release.Service
  "helm.sh/chart" (include "daebus.labelValue" $chart) -}}
{{- $selector := dict "app.kubernetes.io/name" .name "app.kubernetes.io/instance" $context.Release.Name -}}
{{- include "daebus.texts" (list $about $context.Values.commonLabels .more $selector) -}}
{{- end -}}

{{- /* Any text turned into a valid label value: at most 63 letters, digits, -, _ and ., a letter or digit at each end. */ -}}
{{- define "daebus.labelValue" -}}
{{- $letters := regexReplaceAll "[^A-Za-z0-9._-]" . "_" -}}
{{- regexReplaceAll "[^A-Za-z0-9]+$" (regexReplaceAll "^[^A-Za-z0-9]+" $letters "" | trunc 63) "" -}}
{{- end -}}

{{- /* Name, labels and annotations of an object, from `context` and, where they differ, `name`, `labels`, `annotations`. */ -}}
{{- define "daebus.metadata" -}}
name: {{ default .context.name .name | quote }}
labels:
  {{- include "daebus.allLabels" (dict "context" .context "name" .context.name "more" .labels) | nindent 2 }}
{{- with include "daebus.texts" (list .context.Values.commonAnnotations .annotations) }}
annotations:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "daebus.tag" -}}
{{- coalesce (include "daebus.text" .image.tag) .appVersion -}}
{{- end -}}

{{- define "daebus.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ .tag }}
{{- end -}}
{{- end -}}
