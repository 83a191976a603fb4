{{- define "agent.labels" -}}
app.kubernetes.io/name: cpn-agent
app.kubernetes.io/instance: {{ .Values.cluster }}
{{- end }}

{{- define "agent.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "agent.secret" -}}
{{ .Values.existingSecret | default "cpn-agent-join" }}
{{- end }}

{{- define "agent.serverPort" -}}
{{- $host := (urlParse .Values.server).host -}}
{{- if regexMatch ":[0-9]+$" $host }}{{ regexFind "[0-9]+$" $host }}{{ else }}{{ ternary 443 80 (hasPrefix "https://" .Values.server) }}{{ end -}}
{{- end }}

{{- /* What no schema can say in words of its own. */ -}}
{{- define "agent.check" -}}
{{- if not .Values.cluster }}
{{- fail "cluster: the name that this cluster is registered under is needed; register it with `cpn cluster register NAME --backend kubernetes`" }}
{{- end }}
{{- if not .Values.server }}
{{- fail "server: the control plane's URL is needed, as pods of this cluster call it, like https://cpn.example.org" }}
{{- end }}
{{- if and (not .Values.joinToken) (not .Values.existingSecret) }}
{{- fail (printf "joinToken: the agent joins with a token, once; make one with `cpn cluster token %s` and set joinToken to it, or existingSecret to the name of a Secret that holds it" .Values.cluster) }}
{{- end }}
{{- if and .Values.joinToken .Values.existingSecret }}
{{- fail "joinToken and existingSecret are both set; leave one of them out" }}
{{- end }}
{{- range list "CPN_SERVER" "CPN_JOIN_TOKEN" "CPN_TOKEN" "CPN_DATA_DIR" }}
{{- if hasKey $.Values.settings . }}
{{- fail (printf "settings.%s: the chart sets this itself; leave it out, and use the values server, joinToken and storage" .) }}
{{- end }}
{{- end }}
{{- end }}
