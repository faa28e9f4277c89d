"""Add searches"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "searches",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("project_id", sa.String(length=63), nullable=False),
        sa.Column("purpose", sa.String(length=63), nullable=False),
        sa.Column("submitted_by", sa.String(length=128), nullable=False),
        sa.Column("idempotency_key", sa.String(length=128), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False, comment="resolved search.yaml"),
        sa.Column("spec_digest", sa.String(length=64), nullable=False),
        sa.Column(
            "code_digest",
            sa.String(length=64),
            nullable=True,
            comment="digest of the packed working directory that all trials share",
        ),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("dataset_version", sa.Integer(), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False, comment="how many are charged at most"),
        sa.Column("concurrency", sa.Integer(), nullable=False, comment="trials under way at once"),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "best_trial", sa.Integer(), nullable=True, comment="chosen by released metrics when it ended"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'succeeded', 'failed', 'cancelled', 'denied')",
            name=op.f("ck_searches_state_known"),
        ),
        sa.CheckConstraint("trials > 0 AND concurrency > 0", name=op.f("ck_searches_counts_positive")),
        sa.ForeignKeyConstraint(
            ["dataset_id", "dataset_version"],
            ["dataset_versions.dataset_id", "dataset_versions.version"],
            name=op.f("fk_searches_dataset_id_dataset_versions"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_searches_project_id_projects")
        ),
        sa.ForeignKeyConstraint(
            ["submitted_by"], ["principals.id"], name=op.f("fk_searches_submitted_by_principals")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_searches")),
        sa.UniqueConstraint("submitted_by", "idempotency_key", name=op.f("uq_searches_submitted_by")),
    )
    for column in ("name", "project_id", "state", "submitted_by"):
        op.create_index(op.f(f"ix_searches_{column}"), "searches", [column], unique=False)
    op.create_table(
        "search_trials",
        sa.Column("search_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="from 1, in the order in which they start"),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=True, comment="None until the sampler has chosen them"),
        sa.CheckConstraint("number > 0", name=op.f("ck_search_trials_number_positive")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_search_trials_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["search_id"], ["searches.id"], name=op.f("fk_search_trials_search_id_searches")
        ),
        sa.PrimaryKeyConstraint("search_id", "number", name=op.f("pk_search_trials")),
        sa.UniqueConstraint("job_id", name=op.f("uq_search_trials_job_id")),
    )


def downgrade() -> None:
    op.drop_table("search_trials")
    for column in ("submitted_by", "state", "project_id", "name"):
        op.drop_index(op.f(f"ix_searches_{column}"), table_name="searches")
    op.drop_table("searches")
