{{- /*
What the pods of Weaviate's own chart would be told about one store by the same values, as JSON: `plain` values and names of
Secrets (`secret`), by variable. Takes root, kind, names and credentials, which are those of the names that may lie in a
Secret. Sources are in the order of that chart's environment: where a variable comes twice, the last one counts.
*/ -}}
{{- define "wvb.told" -}}
{{- $values := .root.Values }}
{{- $store := index $values.backups .kind }}
{{- $offload := (default dict $values.offload).s3 | default dict }}
{{- $sources := list (dict "plain" $values.env) (dict "secret" $values.envSecrets) }}
{{- if eq .kind "s3" }}
{{- /* One AWS identity serves backups and offloading there, and the Secrets of offloading go first even when it is off. */}}
{{- $sources = append $sources (dict "plain" (empty $offload.enabled | ternary dict $offload.envconfig)) }}
{{- $sources = append $sources (dict "plain" $store.envconfig) }}
{{- $sources = append $sources (dict "secret" (default $store.envSecrets $offload.envSecrets)) }}
{{- $sources = append $sources (dict "plain" (empty $offload.enabled | ternary dict $offload.secrets)) }}
{{- else }}
{{- $sources = append $sources (dict "plain" $store.envconfig) }}
{{- $sources = append $sources (dict "secret" $store.envSecrets) }}
{{- end }}
{{- $sources = append $sources (dict "plain" $store.secrets) }}
{{- $told := dict "plain" dict "secret" dict }}
{{- range $source := $sources }}
{{- range $way, $other := dict "plain" "secret" "secret" "plain" }}
{{- range $name, $value := index $source $way }}
{{- if and (has $name $.names) (not (kindIs "invalid" $value)) }}
{{- $_ := set (index $told $way) $name (kindIs "float64" $value | ternary (int64 $value) $value | toString) }}
{{- $_ := unset (index $told $other) $name }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $secret := $told.secret }}
{{- if not (has $name $.credentials) }}
{{- fail (printf "%s comes from Secret %s, where this chart cannot read it: set backups.%s.envconfig.%s as well" $name $secret $.kind $name) }}
{{- end }}
{{- end }}
{{- toJson $told }}
{{- end }}

{{- /* Refuses variables of a store that have no counterpart here. Takes kind, told and because: the reason, by name. */ -}}
{{- define "wvb.refuse" -}}
{{- range $name, $reason := .because }}
{{- if index $.told.plain $name }}
{{- fail (printf "backups.%s: %s %s" $.kind $name $reason) }}
{{- end }}
{{- end }}
{{- end }}

{{- /*
The credentials of a location, as JSON: what its `store` says of Secrets, and the `data` of a Secret that this chart makes for
those that are plain values. Takes kind, told, names, and own: the name of that Secret.
*/ -}}
{{- define "wvb.credentials" -}}
{{- $plain := dict }}
{{- $keys := list }}
{{- $secrets := list }}
{{- range $name := .names }}
{{- with index $.told.plain $name }}
{{- $_ := set $plain $name . }}
{{- end }}
{{- with index $.told.secret $name }}
{{- $keys = append $keys (dict "name" . "key" $name) }}
{{- $secrets = append $secrets . | uniq }}
{{- end }}
{{- end }}
{{- $store := dict }}
{{- if and (eq (len $secrets) 1) (not $plain) }}
{{- $_ := set $store "credentialsSecretRef" (dict "name" (first $secrets)) }}
{{- else if $keys }}
{{- $_ := set $store "credentialKeyRefs" $keys }}
{{- end }}
{{- if $plain }}
{{- $_ := set $store "credentialsSecretRef" (dict "name" .own) }}
{{- end }}
{{- dict "store" $store "data" $plain | toJson }}
{{- end }}

{{- /* The service account of Weaviate's pods, which is how it is known to a cloud; empty when it has none of its own. */ -}}
{{- define "wvb.weaviateAccount" -}}
{{- $s3 := default dict .Values.backups.s3 }}
{{- coalesce .Values.serviceAccountName (empty $s3.enabled | ternary "" $s3.serviceAccountName) | default "" }}
{{- end }}

{{- /* Top-level values that belong to Weaviate's chart alone, as far as they are set. */ -}}
{{- define "wvb.ignored" -}}
{{- $theirs := list "affinity" "annotations" "args" "authentication" "authorization" "clusterDomain" "collectionExport" }}
{{- $theirs = concat $theirs (list "collector_proxy" "command" "containerSecurityContext" "custom_config_map" "debug") }}
{{- $theirs = concat $theirs (list "globalPriorityClassName" "grpcService" "hostAliases" "image" "initContainers" "livenessProbe") }}
{{- $theirs = concat $theirs (list "mcp" "modules" "namespaces" "nodeSelector" "podDisruptionBudgets" "podManagementPolicy") }}
{{- $theirs = concat $theirs (list "priorityClassName" "query_defaults" "readinessProbe" "replicas" "resources" "runtime_overrides") }}
{{- $theirs = concat $theirs (list "securityContext" "service" "serviceMonitor" "startupProbe" "storage") }}
{{- $theirs = concat $theirs (list "terminationGracePeriodSeconds" "tolerations" "updateStrategy" "usage") }}
{{- $found := list }}
{{- range $name := $theirs }}
{{- if not (kindIs "invalid" (index $.Values $name)) }}
{{- $found = append $found $name }}
{{- end }}
{{- end }}
{{- join ", " $found }}
{{- end }}
