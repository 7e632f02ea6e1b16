"""The serving lease: jobs share one model server, and none outlives its use.

    with lease_server(spec, journal_dir=..., log_dir=...) as lease:
        base_url = lease.wait_ready()

The first holder on a machine starts the server that a `ServerSpec` describes through a supervisor
process; later holders of the same description share it.
"""

from grace.serving.lease import Lease, lease_server
from grace.serving.spec import ServerSpec

__all__ = ["Lease", "ServerSpec", "lease_server"]
