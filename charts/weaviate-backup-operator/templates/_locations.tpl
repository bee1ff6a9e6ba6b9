{{- /* The `backups` block of Weaviate's own chart, read as that chart reads it, as specs of locations. */ -}}

{{- define "wvb.location.s3" -}}
{{- $env := .envconfig }}
{{- $endpoint := toString (default "" $env.BACKUP_S3_ENDPOINT) }}
s3:
  bucket: {{ default "weaviate-backups" $env.BACKUP_S3_BUCKET | quote }}
  {{- with $env.BACKUP_S3_PATH }}
  path: {{ trimAll "/" . | quote }}
  {{- end }}
  {{- with $endpoint }}
  endpoint: {{ . | quote }}
  {{- /* As Weaviate's client does: buckets are host names at AWS, paths elsewhere. */}}
  forcePathStyle: {{ not (contains "amazonaws.com" .) }}
  {{- end }}
  {{- with default $env.AWS_DEFAULT_REGION $env.AWS_REGION }}
  region: {{ . | quote }}
  {{- end }}
  {{- if hasKey $env "BACKUP_S3_USE_SSL" }}
  useSSL: {{ include "wvb.isTrue" $env.BACKUP_S3_USE_SSL }}
  {{- end }}
  {{- with include "wvb.location.secret" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- with .serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- end }}

{{- define "wvb.location.gcs" -}}
{{- $env := .envconfig }}
gcs:
  bucket: {{ default "weaviate-backups" $env.BACKUP_GCS_BUCKET | quote }}
  {{- with $env.BACKUP_GCS_PATH }}
  path: {{ trimAll "/" . | quote }}
  {{- end }}
  {{- with $env.GOOGLE_CLOUD_PROJECT }}
  project: {{ . | quote }}
  {{- end }}
  {{- if hasKey $env "BACKUP_GCS_USE_AUTH" }}
  useAuth: {{ include "wvb.isTrue" $env.BACKUP_GCS_USE_AUTH }}
  {{- end }}
  {{- with include "wvb.location.secret" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "wvb.location.azure" -}}
{{- $env := .envconfig }}
azure:
  container: {{ default "weaviate-backups" $env.BACKUP_AZURE_CONTAINER | quote }}
  {{- with $env.BACKUP_AZURE_PATH }}
  path: {{ trimAll "/" . | quote }}
  {{- end }}
  {{- with include "wvb.location.secret" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* Weaviate's chart keeps `secrets` in a Secret of a fixed name, and takes `envSecrets` from those that it is told. */ -}}
{{- define "wvb.location.secret" -}}
{{- if .secrets }}
credentialsSecretRef:
  name: backup-{{ .kind }}
{{- else if .envSecrets }}
{{- $names := values .envSecrets | uniq }}
{{- if gt (len $names) 1 }}
{{- fail (printf "backups.%s.envSecrets names several Secrets (%s), a location has one: put all keys into one Secret" .kind (join ", " (sortAlpha $names))) }}
{{- end }}
credentialsSecretRef:
  name: {{ first $names }}
{{- end }}
{{- end }}

{{- /* Words that Weaviate takes for true. */ -}}
{{- define "wvb.isTrue" -}}
{{- has (toString . | lower) (list "true" "on" "enabled" "1") }}
{{- end }}

{{- define "wvb.knowsLocations" -}}
{{- .Capabilities.APIVersions.Has "backup.weaviate.io/v1alpha1/WeaviateBackupLocation" }}
{{- end }}
