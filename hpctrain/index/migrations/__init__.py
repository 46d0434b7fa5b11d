"""Migrations of the tables of the index, by Alembic."""
