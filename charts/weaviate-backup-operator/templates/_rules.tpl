{{- /* What the operator may do, by purpose: each verb is one that it uses. Secrets are read by name only; there is no
pods/exec anywhere, and nothing of a namespace but our own kinds is ever changed by patch. */ -}}

{{- /* Our own kinds: watched, finalized by patch; only their status is written. finalizers: owners of pods and Secrets,
where the API server asks who may block a deletion. */ -}}
{{- define "wvb.rules.resources" -}}
- apiGroups: [backup.weaviate.io]
  resources: [weaviatebackups, weaviaterestores, weaviatebackuplocations]
  verbs: [get, list, watch]
- apiGroups: [backup.weaviate.io]
  resources: [weaviatebackups, weaviaterestores]
  verbs: [patch]
- apiGroups: [backup.weaviate.io]
  resources: [weaviatebackups/status, weaviaterestores/status, weaviatebackuplocations/status]
  verbs: [patch]
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

{{- /* Agents: their pods, the keys that are mounted into them, credentials by name. */ -}}
{{- define "wvb.rules.agents" -}}
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, delete]
{{- end }}

{{- /* One operation per cluster at a time, telling people about it, and why a pod does not start. */ -}}
{{- define "wvb.rules.coordination" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end }}

{{- /* Plans and the operator's own keys, in its own namespace when that is not served. */ -}}
{{- define "wvb.rules.memory" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, delete]
{{- end }}
