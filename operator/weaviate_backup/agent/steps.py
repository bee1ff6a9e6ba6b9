"""Which function takes which step."""

from weaviate_backup.agent.apply import apply
from weaviate_backup.agent.audit import audit, vacancy
from weaviate_backup.agent.commit import commit
from weaviate_backup.agent.confirm import confirm
from weaviate_backup.agent.discard import discard, vacate
from weaviate_backup.agent.download import download
from weaviate_backup.agent.freeze import freeze
from weaviate_backup.agent.inspect_backup import inspect
from weaviate_backup.agent.place import place
from weaviate_backup.agent.probe import meet, probe
from weaviate_backup.agent.release import release
from weaviate_backup.agent.runner import StepFunction
from weaviate_backup.agent.upload import upload
from weaviate_backup.agent.verify import verify
from weaviate_backup.core.session import Step

STEPS: dict[Step, StepFunction] = {
    Step.PROBE: probe,
    Step.MEET: meet,
    Step.FREEZE: freeze,
    Step.UPLOAD: upload,
    Step.VERIFY: verify,
    Step.COMMIT: commit,
    Step.DISCARD: discard,
    Step.INSPECT: inspect,
    Step.VACANCY: vacancy,
    Step.AUDIT: audit,
    Step.DOWNLOAD: download,
    Step.PLACE: place,
    Step.APPLY: apply,
    Step.CONFIRM: confirm,
    Step.RELEASE: release,
    Step.VACATE: vacate,
}
