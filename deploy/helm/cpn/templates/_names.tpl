{{- define "cpn.name" -}}
{{- if contains "cpn" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-cpn" (.Release.Name | trunc 36 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "cpn.selector" -}}
app.kubernetes.io/name: cpn
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{- define "cpn.labels" -}}
app.kubernetes.io/name: cpn
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "cpn.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "cpn.claim" -}}
{{ .Values.storage.existingClaim | default (include "cpn.name" .) }}
{{- end }}

{{- define "cpn.databaseSecret" -}}
{{ .Values.database.existingSecret | default (printf "%s-database" (include "cpn.name" .)) }}
{{- end }}

{{- define "cpn.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "cpn.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "cpn.databaseEnv" -}}
- name: CPN_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "cpn.databaseSecret" . }}
      key: {{ ternary .Values.database.existingSecretKey "url" (not (empty .Values.database.existingSecret)) }}
{{- end }}

{{- /* What no schema can say in words of its own. */ -}}
{{- define "cpn.check" -}}
{{- if gt (int .Values.replicas) 1 }}
{{- fail (printf "replicas: %d servers cannot share a database: a second one is refused when it starts, and would not take over (docs/decisions/0007-one-server-per-database.md); set replicas to 1, Kubernetes starts the server again when it ends" (int .Values.replicas)) }}
{{- end }}
{{- if and (not .Values.database.url) (not .Values.database.existingSecret) }}
{{- fail "database: the URL of a PostgreSQL is needed; set database.url to postgresql://USER:PASSWORD@HOST:5432/DATABASE, or database.existingSecret to the name of a Secret that holds it" }}
{{- end }}
{{- if and .Values.database.url .Values.database.existingSecret }}
{{- fail "database: url and existingSecret are both set; leave one of them out" }}
{{- end }}
{{- range list "CPN_DATABASE_URL" "CPN_DATA_DIR" "CPN_HOST" "CPN_PORT" }}
{{- if hasKey $.Values.settings . }}
{{- fail (printf "settings.%s: the chart sets this itself; leave it out, and use the values database, storage and service" .) }}
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
{{- fail "ingress.host: an Ingress needs the name that people call the server by; set it to something like cpn.example.org" }}
{{- end }}
{{- end }}
