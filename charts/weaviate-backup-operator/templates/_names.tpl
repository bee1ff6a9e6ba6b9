{{- define "wvb.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "wvb.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "wvb.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "wvb.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* For objects without a namespace: releases of one name in two namespaces stay apart. */ -}}
{{- define "wvb.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "wvb.fullname" .) }}
{{- end }}

{{- define "wvb.selector" -}}
app.kubernetes.io/name: {{ include "wvb.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "wvb.labels" -}}
{{ include "wvb.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "wvb.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "wvb.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* A tag, or a digest such as sha256:... */ -}}
{{- define "wvb.reference" -}}
{{- printf "%s%s%s" .repository (hasPrefix "sha256:" .tag | ternary "@" ":") .tag }}
{{- end }}

{{- define "wvb.image" -}}
{{- if hasKey (default dict .Values.image) "repository" }}
{{- fail "image is the one of Weaviate in these values, which this chart ignores: set operator.image.repository" }}
{{- end }}
{{- include "wvb.reference" (dict "repository" .Values.operator.image.repository "tag" (default .Chart.AppVersion .Values.operator.image.tag)) }}
{{- end }}

{{- define "wvb.agentImage" -}}
{{- $repository := default .Values.operator.image.repository .Values.agent.image.repository }}
{{- $tag := default (default .Chart.AppVersion .Values.operator.image.tag) .Values.agent.image.tag }}
{{- include "wvb.reference" (dict "repository" $repository "tag" $tag) }}
{{- end }}

{{- /* Who the roles are given to. */ -}}
{{- define "wvb.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "wvb.serviceAccount" . }}
    namespace: {{ .Release.Namespace }}
{{- end }}
