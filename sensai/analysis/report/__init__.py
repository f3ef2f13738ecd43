"""Self-contained HTML pages on an evaluation, a study or a comparison of runs; `page` renders them all."""
