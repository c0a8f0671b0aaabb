"""The study's database: SQLite by default, PostgreSQL by URL, through the same SQLModel code."""
