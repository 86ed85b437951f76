"""Statistics, figures, tables and the report, drawn from files under results/ alone; never imports torch."""
