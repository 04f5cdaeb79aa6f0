"""First tables

The first schema.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("trace", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)
    op.create_table(
        "change",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change")),
    )
    op.create_table(
        "client_group",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("max_gpus", sa.Integer(), nullable=True),
        sa.Column("max_memory_mib", sa.Integer(), nullable=True),
        sa.Column("max_leases", sa.Integer(), nullable=True),
        sa.Column("max_lease_s", sa.Integer(), nullable=True),
        sa.Column("idle_after_s", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.CheckConstraint("weight > 0", name=op.f("ck_client_group_weight")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_group")),
        sa.UniqueConstraint("name", name=op.f("uq_client_group_name")),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("trace", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index(op.f("ix_event_at"), "event", ["at"], unique=False)
    op.create_index(op.f("ix_event_kind"), "event", ["kind"], unique=False)
    op.create_index(op.f("ix_event_subject"), "event", ["subject"], unique=False)
    op.create_table(
        "instance",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("control_endpoint", sa.String(), nullable=False),
        sa.Column("api_url", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
    )
    op.create_table(
        "reading",
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("check_name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("threshold", sa.String(), nullable=False),
        sa.Column("meaning", sa.String(), nullable=False),
        sa.Column("remedy", sa.String(), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", "check_name", name=op.f("pk_reading")),
    )
    op.create_table(
        "scheduler",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scheduler")),
    )
    op.create_table(
        "server",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("public_key", sa.String(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("drain_deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("hostname", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("has_rdma", sa.Boolean(), nullable=False),
        sa.Column("cuda_version", sa.String(), nullable=False),
        sa.Column("driver_version", sa.String(), nullable=False),
        sa.Column("daemon_version", sa.String(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_server")),
        sa.UniqueConstraint("name", name=op.f("uq_server_name")),
        sa.UniqueConstraint("public_key", name=op.f("uq_server_public_key")),
    )
    op.create_index(op.f("ix_server_state"), "server", ["state"], unique=False)
    op.create_table(
        "setting",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_setting")),
    )
    op.create_table(
        "vcenter",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("sealed_password", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vcenter")),
        sa.UniqueConstraint("name", name=op.f("uq_vcenter_name")),
    )
    op.create_table(
        "client",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("group_id", sa.String(), nullable=False),
        sa.Column("public_key", sa.String(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hostname", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("agent_version", sa.String(), nullable=False),
        sa.Column("max_gpus", sa.Integer(), nullable=True),
        sa.Column("max_memory_mib", sa.Integer(), nullable=True),
        sa.Column("max_leases", sa.Integer(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["client_group.id"], name=op.f("fk_client_group_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client")),
        sa.UniqueConstraint("name", name=op.f("uq_client_name")),
        sa.UniqueConstraint("public_key", name=op.f("uq_client_public_key")),
    )
    op.create_index(op.f("ix_client_group_id"), "client", ["group_id"], unique=False)
    op.create_table(
        "enrolment_token",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("group_id", sa.String(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["client_group.id"], name=op.f("fk_enrolment_token_group_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_token")),
        sa.UniqueConstraint("digest", name=op.f("uq_enrolment_token_digest")),
    )
    op.create_table(
        "gpu",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("server_id", sa.String(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("multiprocessors", sa.Integer(), nullable=False),
        sa.Column("reserved_mib", sa.Integer(), nullable=False),
        sa.Column("reserved_compute", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_reason", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.CheckConstraint("memory_mib > 0", name=op.f("ck_gpu_memory")),
        sa.CheckConstraint("reserved_compute >= 0 AND reserved_compute <= 1000", name=op.f("ck_gpu_reserved_compute")),
        sa.CheckConstraint("reserved_mib >= 0 AND reserved_mib <= memory_mib", name=op.f("ck_gpu_reserved_memory")),
        sa.ForeignKeyConstraint(["server_id"], ["server.id"], name=op.f("fk_gpu_server_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gpu")),
    )
    op.create_index(op.f("ix_gpu_server_id"), "gpu", ["server_id"], unique=False)
    op.create_table(
        "api_token",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_api_token_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_token_digest")),
    )
    op.create_table(
        "distance",
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("server_id", sa.String(), nullable=False),
        sa.Column("round_trip_us", sa.Double(), nullable=False),
        sa.Column("bandwidth_mbps", sa.Double(), nullable=True),
        sa.Column("mtu", sa.Integer(), nullable=True),
        sa.Column("rdma", sa.Boolean(), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_distance_client_id")),
        sa.ForeignKeyConstraint(["server_id"], ["server.id"], name=op.f("fk_distance_server_id")),
        sa.PrimaryKeyConstraint("client_id", "server_id", name=op.f("pk_distance")),
    )
    op.create_table(
        "lease",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("request", sa.String(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=True),
        sa.Column("fraction", sa.Double(), nullable=True),
        sa.Column("compute", sa.Integer(), nullable=True),
        sa.Column("filters", sa.JSON(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("keeper", sa.String(), nullable=False),
        sa.Column("program", sa.String(), nullable=False),
        sa.Column("trace", sa.String(), nullable=False),
        sa.Column("timeout_s", sa.Double(), nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("release_requested", sa.Boolean(), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.CheckConstraint("gpus > 0", name=op.f("ck_lease_gpus")),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"], name=op.f("fk_lease_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lease")),
        sa.UniqueConstraint("client_id", "request", name=op.f("uq_lease_client_id_request")),
    )
    op.create_index(op.f("ix_lease_client_id"), "lease", ["client_id"], unique=False)
    op.create_index(op.f("ix_lease_ended_at"), "lease", ["ended_at"], unique=False)
    op.create_index("ix_lease_state", "lease", ["state"], unique=False)
    op.create_table(
        "slice",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("lease_id", sa.String(), nullable=False),
        sa.Column("gpu_id", sa.String(), nullable=False),
        sa.Column("server_id", sa.String(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("compute", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.CheckConstraint("memory_mib > 0", name=op.f("ck_slice_memory")),
        sa.ForeignKeyConstraint(["gpu_id"], ["gpu.id"], name=op.f("fk_slice_gpu_id")),
        sa.ForeignKeyConstraint(["lease_id"], ["lease.id"], name=op.f("fk_slice_lease_id")),
        sa.ForeignKeyConstraint(["server_id"], ["server.id"], name=op.f("fk_slice_server_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_slice")),
    )
    op.create_index(op.f("ix_slice_gpu_id"), "slice", ["gpu_id"], unique=False)
    op.create_index(op.f("ix_slice_lease_id"), "slice", ["lease_id"], unique=False)
    op.create_index(op.f("ix_slice_server_id"), "slice", ["server_id"], unique=False)
    op.create_index(op.f("ix_slice_state"), "slice", ["state"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_slice_state"), table_name="slice")
    op.drop_index(op.f("ix_slice_server_id"), table_name="slice")
    op.drop_index(op.f("ix_slice_lease_id"), table_name="slice")
    op.drop_index(op.f("ix_slice_gpu_id"), table_name="slice")
    op.drop_table("slice")
    op.drop_index("ix_lease_state", table_name="lease")
    op.drop_index(op.f("ix_lease_ended_at"), table_name="lease")
    op.drop_index(op.f("ix_lease_client_id"), table_name="lease")
    op.drop_table("lease")
    op.drop_table("distance")
    op.drop_table("api_token")
    op.drop_index(op.f("ix_gpu_server_id"), table_name="gpu")
    op.drop_table("gpu")
    op.drop_table("enrolment_token")
    op.drop_index(op.f("ix_client_group_id"), table_name="client")
    op.drop_table("client")
    op.drop_table("vcenter")
    op.drop_table("setting")
    op.drop_index(op.f("ix_server_state"), table_name="server")
    op.drop_table("server")
    op.drop_table("scheduler")
    op.drop_table("reading")
    op.drop_table("instance")
    op.drop_index(op.f("ix_event_subject"), table_name="event")
    op.drop_index(op.f("ix_event_kind"), table_name="event")
    op.drop_index(op.f("ix_event_at"), table_name="event")
    op.drop_table("event")
    op.drop_table("client_group")
    op.drop_table("change")
    op.drop_index(op.f("ix_audit_at"), table_name="audit")
    op.drop_table("audit")
