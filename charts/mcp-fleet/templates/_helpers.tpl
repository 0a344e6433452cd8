{{/* Names and labels that the templates share. In: release, chart and values. Out: strings and label maps. */}}

{{- define "mcp-fleet.fullname" -}}
{{- printf "%s-operator" (.Release.Name | trunc 50 | trimSuffix "-") -}}
{{- end -}}

{{- define "mcp-fleet.serviceAccountName" -}}
{{- default (include "mcp-fleet.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "mcp-fleet.selectorLabels" -}}
app.kubernetes.io/name: mcp-fleet-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mcp-fleet.labels" -}}
{{ include "mcp-fleet.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: mcp-fleet
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Reference of an image. In: a dict of `image`, `path` (where its values stand) and `default` (tag). */}}
{{- define "mcp-fleet.image" -}}
{{- $repository := required (printf "%s.repository is required: name the registry and repository that hold the image" .path) .image.repository -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .default .image.tag) -}}
{{- end -}}
{{- end -}}
