"""What is made of a trained run: analysis, figures and the report page."""
