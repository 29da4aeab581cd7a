{{- define "daebus.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "daebus.metadata" (dict "context" .) | nindent 2 }}
spec:
  # No number here, so that an autoscaler (an HPA, KEDA) keeps the number that it has set.
  {{- if and (hasKey .Values "replicaCount") (ne (toString .Values.autoscaling.kind) "external") }}
  replicas: {{ int .Values.replicaCount }}
  {{- end }}
  {{- with get .Values "revisionHistoryLimit" | toString }}
  revisionHistoryLimit: {{ . }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "daebus.selector" . | nindent 6 }}
  {{- with .Values.strategy }}
  strategy:
    {{- toYaml (eq (toString .type) "Recreate" | ternary (omit . "rollingUpdate") .) | nindent 4 }}
  {{- end }}
  template:
    metadata:
      labels:
        {{- include "daebus.allLabels" (dict "context" . "name" .name "more" .Values.podLabels) | nindent 8 }}
      {{- $sums := dict }}
      {{- with .Values.config }}
      {{- /* Variables are read only at the start, so a change must replace the pod. */ -}}
      {{- $sums = dict "checksum/config" (toJson . | sha256sum) }}
      {{- end }}
      {{- with include "daebus.texts" (list .Values.commonAnnotations $sums .Values.podAnnotations) }}
      annotations:
        {{- . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "daebus.pod" . | nindent 6 }}
      terminationGracePeriodSeconds: {{ include "daebus.grace" . }}
      {{- if or (eq .Values.bus.mode "sidecar") .Values.extraInitContainers }}
      initContainers:
        {{- if eq .Values.bus.mode "sidecar" }}
        {{- include "daebus.sidecar" . | nindent 8 }}
        {{- end }}
        {{- with include "daebus.extraContainers" (dict "context" . "which" "extraInitContainers") | trim }}{{ nindent 8 . }}{{ end }}
      {{- end }}
      containers:
        {{- include "daebus.container" . | nindent 8 }}
        {{- with include "daebus.extraContainers" (dict "context" . "which" "extraContainers") | trim }}{{ nindent 8 . }}{{ end }}
      volumes:
        - name: tmp
          {{- include "daebus.emptyDir" .Values.tmp | nindent 10 }}
        {{- if eq .Values.bus.mode "sidecar" }}
        - name: bus
          emptyDir:
            medium: Memory
            sizeLimit: 1Mi
        {{- end }}
        {{- range $name, $secret := include "daebus.tls" . | fromJson }}
        - name: {{ $name }}
          secret:
            secretName: {{ $secret | quote }}
        {{- end }}
        {{- with .Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}

{{- /* The seconds from SIGTERM to SIGKILL, from this one sum: the pod still answers for `preStopSeconds`, drains for
       `drainSeconds`, its on_stop hooks have 5, and 4 more are for the last replies and the bus beside the service. */ -}}
{{- define "daebus.grace" -}}
{{- $sum := add (include "daebus.preStop" .) .Values.drainSeconds 5 4 -}}
{{- $wished := int .Values.terminationGracePeriodSeconds -}}
{{- if and $wished (lt $wished (int $sum)) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, but the end of this service may take %d: set drainSeconds to at most %d, or leave terminationGracePeriodSeconds at 0." $wished (int $sum) (sub $wished (sub $sum .Values.drainSeconds))) -}}
{{- end -}}
{{- max $wished $sum -}}
{{- end -}}

{{- define "daebus.preStop" -}}
{{- ternary (int .Values.preStopSeconds) 0 (ne (int .Values.port) 0) -}}
{{- end -}}

{{- define "daebus.container" -}}
- name: service
  image: {{ include "daebus.image" . | quote }}
  {{- with .Values.image.pullPolicy }}
  imagePullPolicy: {{ . | quote }}
  {{- end }}
  {{- range $field := list "command" "args" }}
  {{- with get $.Values $field }}
  {{ $field }}:
    {{- range . }}
    - {{ include "daebus.text" . | quote }}
    {{- end }}
  {{- end }}
  {{- end }}
  env:
    - name: DAEBUS_SERVICE
      value: {{ .Values.service | quote }}
    {{- include "daebus.busEnv" . | nindent 4 }}
    # In a cluster a service must never start a bus of its own.
    - name: DAEBUS_EMBEDDED
      value: never
    - name: DAEBUS_MANAGEMENT_PORT
      value: "9000"
    - name: DAEBUS_DRAIN_SECONDS
      value: {{ int .Values.drainSeconds | quote }}
    {{- with include "daebus.portEnv" . | trim }}{{ nindent 4 . }}{{ end }}
    {{- with include "daebus.tlsEnv" . | trim }}{{ nindent 4 . }}{{ end }}
    {{- with include "daebus.extraEnv" . | trim }}{{ nindent 4 . }}{{ end }}
  {{- if or .Values.config .Values.secrets .Values.extraEnvFrom }}
  envFrom:
    {{- if .Values.config }}
    - configMapRef:
        name: {{ .name | quote }}
    {{- end }}
    {{- range .Values.secrets }}
    - secretRef:
        name: {{ . | quote }}
    {{- end }}
    {{- with .Values.extraEnvFrom }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  ports:
    {{- if .Values.port }}
    - name: http
      containerPort: {{ int .Values.port }}
    {{- end }}
    - name: management
      containerPort: 9000
  {{- with include "daebus.preStop" . | int }}
  lifecycle:
    preStop:
      # Requests arrive until every node knows that the pod is terminating, so it goes on answering for that time.
      exec:
        command:
          - python
          - -c
          - import time; time.sleep({{ . }})
  {{- end }}
  {{- $live := dict "httpGet" (dict "path" "/livez" "port" "management") }}
  {{- $ready := dict "httpGet" (dict "path" "/readyz" "port" "management") }}
  {{- $asks := dict "startup" $live "liveness" $live "readiness" $ready }}
  {{- with include "daebus.probes" (dict "context" . "asks" $asks) | trim }}{{ nindent 2 . }}{{ end }}
  {{- with include "daebus.bounds" (dict "Values" .Values "resources" .Values.resources) | trim }}{{ nindent 2 . }}{{ end }}
  volumeMounts:
    # The only writable place.
    - name: tmp
      mountPath: /tmp
    {{- if eq .Values.bus.mode "sidecar" }}
    - name: bus
      mountPath: /run/bus
    {{- end }}
    {{- /* Whole folders, because a single file would not follow the Secret. */ -}}
    {{- range $name, $_ := include "daebus.tls" . | fromJson }}
    - name: {{ $name }}
      mountPath: /run/{{ $name }}
      readOnly: true
    {{- end }}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- /* The Secrets of the port's TLS by the name of their volumes, as JSON. */ -}}
{{- define "daebus.tls" -}}
{{- $found := dict -}}
{{- with (default dict .Values.tls).existingSecret -}}{{- $_ := set $found "tls" . -}}{{- end -}}
{{- with (default dict .Values.tls).clientCASecret -}}{{- $_ := set $found "tls-client-ca" . -}}{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{- define "daebus.scheme" -}}
{{- ternary "https" "http" (ne "" (default "" (default dict .Values.tls).existingSecret)) -}}
{{- end -}}

{{- define "daebus.tlsEnv" -}}
{{- if (default dict .Values.tls).existingSecret }}
- name: DAEBUS_TLS_CERT
  value: /run/tls/tls.crt
- name: DAEBUS_TLS_KEY
  value: /run/tls/tls.key
{{- end }}
{{- if (default dict .Values.tls).clientCASecret }}
- name: DAEBUS_TLS_CLIENT_CA
  value: /run/tls-client-ca/ca.crt
{{- end }}
{{- end -}}

{{- /* The one port of HTTP and WebSockets, together or alone, on both address families. Other hosts in `config` or
       `extraEnv` win. */ -}}
{{- define "daebus.portEnv" -}}
{{- $told := dict -}}
{{- range .Values.extraEnv -}}{{- $_ := set $told .name true -}}{{- end -}}
{{- $told = merge $told (default dict .Values.config) -}}
{{- range $name := list "DAEBUS_HTTP_HOST" "DAEBUS_MANAGEMENT_HOST" }}
{{- if not (hasKey $told $name) }}
- name: {{ $name | quote }}
  value: "::"
{{- end }}
{{- end }}
{{- if .Values.port }}
{{- range $name := list "DAEBUS_HTTP_PORT" "DAEBUS_WEBSOCKET_PORT" }}
- name: {{ $name | quote }}
  value: {{ int $.Values.port | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The variable with the address of the bus. */ -}}
{{- define "daebus.busEnv" -}}
- name: DAEBUS_REDIS_URL
{{- $shared := .Values.bus.shared }}
{{- if eq .Values.bus.mode "sidecar" }}
  value: unix:///run/bus/bus.sock
{{- else if $shared.url }}
  value: {{ $shared.url | quote }}
{{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ $shared.existingSecret | quote }}
      key: {{ $shared.key | quote }}
{{- end }}
{{- end -}}

{{- /* The bus inside the pod: a native sidecar, so it starts before the service and ends after it. It has no network
       port; the two containers share a socket file in memory. */ -}}
{{- define "daebus.sidecar" -}}
{{- $bus := .Values.bus.sidecar -}}
- name: bus
  image: {{ $bus.image | quote }}
  {{- with .Values.image.pullPolicy }}
  imagePullPolicy: {{ . | quote }}
  {{- end }}
  restartPolicy: Always
  command:
    - {{ $bus.server }}-server
    - --port
    - "0"
    - --unixsocket
    - /run/bus/bus.sock
    - --maxmemory
    - {{ include "daebus.text" $bus.maxmemory | quote }}
    - --maxmemory-policy
    - noeviction
    - --save
    - ""
    - --dir
    - /run/bus
  startupProbe:
    {{- include "daebus.ping" $bus | nindent 4 }}
    periodSeconds: 1
    timeoutSeconds: 3
    failureThreshold: 30
  livenessProbe:
    {{- include "daebus.ping" $bus | nindent 4 }}
    periodSeconds: 10
    timeoutSeconds: 3
  {{- with include "daebus.bounds" (dict "Values" .Values "resources" $bus.resources) | trim }}{{ nindent 2 . }}{{ end }}
  volumeMounts:
    - name: bus
      mountPath: /run/bus
{{- end -}}

{{- define "daebus.ping" -}}
exec:
  command:
    - {{ .server }}-cli
    - -s
    - /run/bus/bus.sock
    - -e
    - ping
{{- end -}}

{{- /* The pod of `helm test`: it tests the bus as far as that is possible from outside the pod, and the port if any. */ -}}
{{- define "daebus.testPod" -}}
{{- $test := .Values.test -}}
{{- $calls := and $test.action (eq .Values.bus.mode "shared") -}}
{{- /* A Service that is reachable from outside has no port for health. */ -}}
{{- $inside := eq (default "ClusterIP" .Values.serviceObject.type) "ClusterIP" -}}
apiVersion: v1
kind: Pod
metadata:
  {{- $hook := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded" }}
  name: "{{ .name }}-test"
  labels:
    # Without the service's labels, or the Service would send requests to this pod.
    {{- include "daebus.allLabels" (dict "context" . "name" (printf "%s-test" .name) "more" $test.labels) | nindent 4 }}
  annotations:
    {{- include "daebus.texts" (list .Values.commonAnnotations $test.annotations $hook) | nindent 4 }}
spec:
  {{- include "daebus.pod" . | nindent 2 }}
  restartPolicy: Never
  {{- if and .Values.port (or $calls (not $test.route) (default dict .Values.tls).clientCASecret) }}
  initContainers:
    - name: port
      {{- include "daebus.testContainer" . | nindent 6 }}
      command:
        {{- include "daebus.askPort" . | nindent 8 }}
  {{- end }}
  containers:
    - name: test
      {{- include "daebus.testContainer" . | nindent 6 }}
      {{- if $calls }}
      command:
        - daebus
        - call
        - {{ .Values.service | quote }}
        - {{ include "daebus.text" $test.action | quote }}
        - {{ toJson (default dict $test.payload) | quote }}
      # Needed to reach the bus, for example certificates of a private authority.
      env:
        {{- include "daebus.busEnv" . | nindent 8 }}
        {{- with include "daebus.extraEnv" . | trim }}{{ nindent 8 . }}{{ end }}
      {{- with .Values.extraVolumeMounts }}
      volumeMounts:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- else if and $test.route (not (default dict .Values.tls).clientCASecret) }}
      command:
        - python
        - -m
        - daebus_runtime.health
        - --post
        {{- if (default dict .Values.tls).existingSecret }}
        # The certificate is for the name that clients use, not for that of the Service.
        - --insecure
        {{- end }}
        - --url
        - {{ include "daebus.scheme" . }}://{{ .name }}:{{ int .Values.port }}{{ $test.route }}
      {{- else if $inside }}
      command:
        - python
        - -m
        - daebus_runtime.health
        - --url
        - http://{{ .name }}:9000/readyz
      {{- else }}
      command:
        {{- include "daebus.askPort" . | nindent 8 }}
      {{- end }}
  {{- if and $calls .Values.extraVolumes }}
  volumes:
    {{- toYaml .Values.extraVolumes | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "daebus.testContainer" -}}
image: {{ include "daebus.image" . | quote }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . | quote }}
{{- end }}
{{- with include "daebus.bounds" (dict "Values" .Values "resources" .Values.resources) | trim }}{{ nindent 0 . }}{{ end }}
{{- end -}}

{{- /* Tests that the port is served: any answer below 500 proves it, whatever the path, and so does the question for a
       certificate. That of the service is for the name that clients use, so it is not checked here. */ -}}
{{- define "daebus.askPort" -}}
- python
- -c
- |
  import socket, ssl, sys, urllib.error, urllib.parse, urllib.request
  anyone = ssl.create_default_context()
  anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
  try:
      status = urllib.request.urlopen(sys.argv[1], timeout=5, context=anyone).status
  except urllib.error.HTTPError as error:
      status = error.code
  except OSError as failed:
      # It may want a certificate of ours. Then it ends the connection, perhaps before the request is sent. So only read.
      url = urllib.parse.urlsplit(sys.argv[1])
      try:
          with anyone.wrap_socket(socket.create_connection((url.hostname, url.port), 5)) as secured:
              secured.recv(1)
          raise failed
      except ssl.SSLError as error:
          if "CERTIFICATE_REQUIRED" not in str(error):
              raise
          status = 401
  print(sys.argv[1], status)
  sys.exit(status >= 500)
- {{ include "daebus.scheme" . }}://{{ .name }}:{{ int .Values.port }}/
{{- end -}}
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
            then {{ include "daebus.scheme" $context }}://localhost:{{ $port }}; inside the cluster {{ include "daebus.scheme" $context }}://{{ $context.name }}:{{ $port }}
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
