{{- /* What the operator may do, by purpose. Secrets are read by name only; there is no pods/exec anywhere. */ -}}

{{- /* Our own kinds: watched, annotated and finalized by patch; only their status is written whole. */ -}}
{{- define "wvb.rules.resources" -}}
- apiGroups: [backup.weaviate.io]
  resources: [weaviatebackups, weaviaterestores, weaviatebackuplocations]
  verbs: [get, list, watch, patch]
- apiGroups: [backup.weaviate.io]
  resources: [weaviatebackups/status, weaviaterestores/status, weaviatebackuplocations/status]
  verbs: [get, patch, update]
- apiGroups: [backup.weaviate.io]
  resources: [weaviatebackups/finalizers, weaviaterestores/finalizers, weaviatebackuplocations/finalizers]
  verbs: [update]
{{- end }}

{{- /* Weaviate as it stands: which pods, volumes and settings a cluster has. */ -}}
{{- define "wvb.rules.discovery" -}}
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get]
- apiGroups: [""]
  resources: [persistentvolumeclaims, configmaps]
  verbs: [get]
{{- end }}

{{- /* Agents: their pods, the keys and orders that are mounted into them, credentials by name. */ -}}
{{- define "wvb.rules.agents" -}}
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
{{- end }}

{{- /* One operation per cluster at a time, one leading operator, telling people about it, and why a pod does not start. */ -}}
{{- define "wvb.rules.coordination" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [list, create, patch]
{{- end }}

{{- /* What the watching framework needs to serve all namespaces. */ -}}
{{- define "wvb.rules.framework" -}}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list, watch]
{{- end }}

{{- /* The operator's client certificates, in its own namespace when that is not served. */ -}}
{{- define "wvb.rules.certificates" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
{{- end }}
