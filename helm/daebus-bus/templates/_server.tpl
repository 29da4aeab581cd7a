{{- define "daebus-bus.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "daebus.metadata" (dict "context" .) | nindent 2 }}
spec:
  replicas: 1
  {{- with get .Values "revisionHistoryLimit" | toString }}
  revisionHistoryLimit: {{ . }}
  {{- end }}
  # Never two servers at the same time: services would be split between them, and both would write to one file.
  strategy:
    type: Recreate
  selector:
    matchLabels:
      {{- include "daebus.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "daebus.allLabels" (dict "context" . "name" .name "more" .Values.podLabels) | nindent 8 }}
      {{- $sums := dict }}
      {{- with .secretData }}
      {{- /* The server reads its password only at the start, so a new one must replace the pod. */ -}}
      {{- $sums = dict "checksum/secret" (toJson . | sha256sum) }}
      {{- end }}
      {{- with include "daebus.texts" (list .Values.commonAnnotations $sums .Values.podAnnotations) }}
      annotations:
        {{- . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "daebus.pod" . | nindent 6 }}
      {{- with get .Values "terminationGracePeriodSeconds" | toString }}
      terminationGracePeriodSeconds: {{ . }}
      {{- end }}
      {{- with include "daebus.extraContainers" (dict "context" . "which" "extraInitContainers") | trim }}
      initContainers:
        {{- . | nindent 8 }}
      {{- end }}
      containers:
        {{- include "daebus-bus.server" . | nindent 8 }}
        {{- with include "daebus.extraContainers" (dict "context" . "which" "extraContainers") | trim }}{{ nindent 8 . }}{{ end }}
      volumes:
        - name: config
          secret:
            secretName: {{ .secret | quote }}
            defaultMode: 0440
            items:
              - key: server.conf
                path: server.conf
        - name: data
          {{- if .Values.persistence.enabled }}
          persistentVolumeClaim:
            claimName: {{ .name | quote }}
          {{- else }}
          emptyDir:
            sizeLimit: 16Mi
          {{- end }}
        {{- with .Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}

{{- define "daebus-bus.server" -}}
- name: server
  image: {{ include "daebus.image" . | quote }}
  {{- with .Values.image.pullPolicy }}
  imagePullPolicy: {{ . | quote }}
  {{- end }}
  # The password is in a file, so that neither a process list nor the environment shows it.
  command:
    - {{ .Values.server }}-server
    - /etc/bus/server.conf
    - --port
    - "6379"
    - --maxmemory
    - {{ include "daebus.text" .Values.maxmemory | quote }}
    - --maxmemory-policy
    - noeviction
    - --save
    - ""
    - --appendonly
    - {{ ternary "yes" "no" (default false .Values.persistence.enabled) | quote }}
    - --dir
    - /data
    # The probes need no password: they use a user that may only PING.
    - --user
    - probe
    - "on"
    - nopass
    - resetkeys
    - resetchannels
    - -@all
    - +ping
  {{- with .Values.args }}
  args:
    {{- range . }}
    - {{ include "daebus.text" . | quote }}
    {{- end }}
  {{- end }}
  {{- with include "daebus.extraEnv" . | trim }}
  env:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .Values.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - name: redis
      containerPort: 6379
  {{- $ping := include "daebus-bus.ping" . | fromYaml }}
  {{- $asks := dict "startup" $ping "liveness" $ping "readiness" $ping }}
  {{- with include "daebus.probes" (dict "context" . "asks" $asks) | trim }}{{ nindent 2 . }}{{ end }}
  {{- with include "daebus.bounds" (dict "Values" .Values "resources" .Values.resources) | trim }}{{ nindent 2 . }}{{ end }}
  volumeMounts:
    - name: config
      mountPath: /etc/bus
      readOnly: true
    - name: data
      mountPath: /data
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- /* With -e an error answer, such as LOADING while the append-only file is read, counts as unhealthy. */ -}}
{{- define "daebus-bus.ping" -}}
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

{{- define "daebus-bus.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  {{- /* The data outlives `helm uninstall`; the next installation uses it again. */ -}}
  {{- include "daebus.metadata" (dict "context" . "annotations" (dict "helm.sh/resource-policy" "keep")) | nindent 2 }}
spec:
  accessModes:
    - ReadWriteOnce
  {{- with .Values.persistence.storageClass }}
  storageClassName: {{ . | quote }}
  {{- end }}
  resources:
    requests:
      storage: {{ include "daebus.text" .Values.persistence.size | quote }}
{{- end -}}

{{- define "daebus-bus.testPod" -}}
{{- $test := .Values.test -}}
{{- $hook := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded" -}}
apiVersion: v1
kind: Pod
metadata:
  name: "{{ .name }}-test"
  labels:
    # Without the server's labels, or the Service would send connections to this pod.
    {{- include "daebus.allLabels" (dict "context" . "name" (printf "%s-test" .name) "more" $test.labels) | nindent 4 }}
  annotations:
    {{- include "daebus.texts" (list .Values.commonAnnotations $test.annotations $hook) | nindent 4 }}
spec:
  {{- include "daebus.pod" . | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: test
      image: {{ include "daebus.image" . | quote }}
      {{- with .Values.image.pullPolicy }}
      imagePullPolicy: {{ . | quote }}
      {{- end }}
      command:
        # More than once: a cluster with network policies may open the way to a new pod some seconds late.
        - sh
        - -c
        - 'for pause in 1 2 3 4 5; do timeout 5 "$0" -h "$1" -e ping && exit; sleep $pause; done; exit 1'
        - {{ .Values.server }}-cli
        - {{ .name | quote }}
      env:
        # The variable from which the client reads the password.
        - name: REDISCLI_AUTH
          valueFrom:
            secretKeyRef:
              name: {{ .secret | quote }}
              key: password
      {{- with include "daebus.bounds" (dict "Values" .Values "resources" .Values.resources) | trim }}{{ nindent 6 . }}{{ end }}
{{- end -}}
