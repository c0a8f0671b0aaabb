"""The study's web server: pages for readers and, apart from them, for administrators."""
