{{- /* Mixes of values that would be wired wrongly stop here, each with its cure. */ -}}
{{- define "daebus.checked" -}}
{{- if and (eq .Values.bus.mode "sidecar") (gt (int .Values.replicaCount) 1) -}}
{{- fail (printf "bus.mode \"sidecar\" gives each of the %d replicas a bus of its own, and they would never hear each other. Set replicaCount to 1, or bus.mode to \"shared\" with bus.url." (int .Values.replicaCount)) -}}
{{- end -}}
{{- if and (eq .Values.bus.mode "shared") (not .Values.bus.url) (not .Values.bus.existingSecret) -}}
{{- fail "bus.mode \"shared\" needs the address of that bus: set bus.url, for example redis://daebus-bus:6379, or bus.existingSecret." -}}
{{- end -}}
{{- end -}}

{{- define "daebus.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* The bus inside the pod: a native sidecar, up before the service and gone after it. It has no network port at
       all; the two containers meet at a socket file in memory. */ -}}
{{- define "daebus.sidecar" -}}
- name: bus
  image: {{ .Values.bus.sidecar.image | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  command:
    - valkey-server
    - --port
    - "0"
    - --unixsocket
    - /run/bus/bus.sock
    - --maxmemory
    - {{ .Values.bus.sidecar.maxmemory | quote }}
    - --maxmemory-policy
    - noeviction
    - --save
    - ""
    - --dir
    - /run/bus
  startupProbe:
    exec:
      command: [valkey-cli, -s, /run/bus/bus.sock, ping]
    periodSeconds: 1
    failureThreshold: 30
  securityContext:
    {{- include "daebus.restricted" . | nindent 4 }}
  resources:
    {{- toYaml .Values.bus.sidecar.resources | nindent 4 }}
  volumeMounts:
    - name: bus
      mountPath: /run/bus
{{- end -}}

{{- /* Where the service finds its bus. */ -}}
{{- define "daebus.busEnv" -}}
- name: DAEBUS_REDIS_URL
{{- if eq .Values.bus.mode "sidecar" }}
  value: unix:///run/bus/bus.sock
{{- else if .Values.bus.existingSecret }}
  valueFrom:
    secretKeyRef:
      name: {{ .Values.bus.existingSecret }}
      key: url
{{- else }}
  value: {{ .Values.bus.url | quote }}
{{- end }}
# A service in a cluster never starts a bus that nobody asked for.
- name: DAEBUS_EMBEDDED
  value: never
{{- end -}}
