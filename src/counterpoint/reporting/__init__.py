"""Everything a person looks at: tables, figures, the page."""
