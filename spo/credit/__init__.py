"""Credit assignment as plain functions of numbers: where a response is cut, and what each part of it earned."""
