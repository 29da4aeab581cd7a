{{- /*
The pods: the service with its bus beside it, and the one that `helm test` runs. Both keep to the Pod Security profile
"restricted", and to a read-only root besides.
*/ -}}
{{- define "daebus.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  labels:
    {{- include "daebus.labels" . | nindent 4 }}
spec:
  replicas: {{ int .Values.replicaCount }}
  selector:
    matchLabels:
      {{- include "daebus.selector" . | nindent 6 }}
  # The old pod answers until the new one is ready, also when there is only one.
  strategy:
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template:
    metadata:
      labels:
        {{- include "daebus.labels" . | nindent 8 }}
      {{- with .Values.config }}
      annotations:
        # A variable is read at the start only, so a changed one is a new pod.
        checksum/config: {{ toJson . | sha256sum }}
      {{- end }}
    spec:
      {{- include "daebus.pod" . | nindent 6 }}
      # Three seconds before the drain and nine after it: hooks, the last replies, and the bus beside the service.
      terminationGracePeriodSeconds: {{ add .Values.drainSeconds 12 }}
      {{- if eq .Values.bus.mode "sidecar" }}
      initContainers:
        {{- include "daebus.sidecar" . | nindent 8 }}
      {{- end }}
      containers:
        {{- include "daebus.container" . | nindent 8 }}
      volumes:
        - name: tmp
          emptyDir:
            medium: Memory
            sizeLimit: 16Mi
        {{- if eq .Values.bus.mode "sidecar" }}
        - name: bus
          emptyDir:
            medium: Memory
            sizeLimit: 1Mi
        {{- end }}
{{- end -}}

{{- /* What both pods have in common. */ -}}
{{- define "daebus.pod" -}}
serviceAccountName: {{ .name }}
# The service talks to its bus, never to the cluster's API.
automountServiceAccountToken: false
# A Service named daebus-bus would become variables named DAEBUS_BUS_…, among the settings.
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

{{- define "daebus.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end -}}

{{- define "daebus.container" -}}
- name: service
  image: {{ include "daebus.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  {{- with .Values.command }}
  command:
    {{- range . }}
    - {{ quote . }}
    {{- end }}
  {{- end }}
  env:
    - name: DAEBUS_SERVICE
      value: {{ .Values.service | quote }}
    {{- include "daebus.busEnv" . | nindent 4 }}
    # A service in a cluster never starts a bus that nobody asked for.
    - name: DAEBUS_EMBEDDED
      value: never
    - name: DAEBUS_MANAGEMENT_PORT
      value: "9000"
    - name: DAEBUS_DRAIN_SECONDS
      value: {{ .Values.drainSeconds | quote }}
    {{- if .Values.port }}
    - name: DAEBUS_HTTP_PORT
      value: {{ .Values.port | quote }}
    {{- end }}
  {{- if or .Values.config .Values.secrets }}
  envFrom:
    {{- if .Values.config }}
    - configMapRef:
        name: {{ .name }}
    {{- end }}
    {{- range .Values.secrets }}
    - secretRef:
        name: {{ . }}
    {{- end }}
  {{- end }}
  ports:
    {{- if .Values.port }}
    - name: http
      containerPort: {{ .Values.port }}
    {{- end }}
    - name: management
      containerPort: 9000
  {{- if .Values.port }}
  lifecycle:
    preStop:
      # Requests come here until every node has heard that the pod is going: they are answered for that long.
      exec:
        command:
          - python
          - -c
          - import time; time.sleep(3)
  {{- end }}
  startupProbe:
    httpGet:
      path: /livez
      port: management
    periodSeconds: 1
    timeoutSeconds: 3
    failureThreshold: 60
  livenessProbe:
    httpGet:
      path: /livez
      port: management
    periodSeconds: 10
    timeoutSeconds: 3
  readinessProbe:
    httpGet:
      path: /readyz
      port: management
    periodSeconds: 3
    timeoutSeconds: 3
  securityContext:
    {{- include "daebus.restricted" . | nindent 4 }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  volumeMounts:
    # The one place that can be written to.
    - name: tmp
      mountPath: /tmp
    {{- if eq .Values.bus.mode "sidecar" }}
    - name: bus
      mountPath: /run/bus
    {{- end }}
{{- end -}}

{{- /* Where the service finds its bus. */ -}}
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
      name: {{ $shared.existingSecret }}
      key: {{ $shared.key }}
{{- end }}
{{- end -}}

{{- /* The bus inside the pod: a native sidecar, up before the service and gone after it. It has no network port at
       all; the two containers meet at a socket file in memory. */ -}}
{{- define "daebus.sidecar" -}}
{{- $bus := .Values.bus.sidecar -}}
- name: bus
  image: {{ $bus.image | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  command:
    - {{ $bus.server }}-server
    - --port
    - "0"
    - --unixsocket
    - /run/bus/bus.sock
    - --maxmemory
    - {{ $bus.maxmemory }}
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
  securityContext:
    {{- include "daebus.restricted" . | nindent 4 }}
  resources:
    {{- toYaml $bus.resources | nindent 4 }}
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

{{- /* What `helm test` runs: as far over the bus as can be had from outside the pod. */ -}}
{{- define "daebus.testPod" -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ .name }}-test
  labels:
    # Not the service's labels: the Service would send requests to this pod.
    app.kubernetes.io/name: {{ .name }}-test
    app.kubernetes.io/instance: {{ .Release.Name }}
    {{- include "daebus.about" . | nindent 4 }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  {{- include "daebus.pod" . | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: test
      image: {{ include "daebus.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command:
        {{- include "daebus.testCommand" . | nindent 8 }}
      {{- if eq .Values.bus.mode "shared" }}
      env:
        {{- include "daebus.busEnv" . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "daebus.restricted" . | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
{{- end -}}

{{- define "daebus.testCommand" -}}
{{- $test := .Values.test -}}
{{- if and $test.action (eq .Values.bus.mode "shared") -}}
- daebus
- call
- {{ .Values.service | quote }}
- {{ $test.action | quote }}
- {{ toJson $test.payload | quote }}
{{- else -}}
- python
- -m
- daebus_runtime.health
{{- if $test.route }}
- --post
- --url
- http://{{ .name }}:{{ .Values.port }}{{ $test.route }}
{{- else }}
- --url
- http://{{ .name }}:9000/readyz
{{- end }}
{{- end -}}
{{- end -}}
