"""What experiments share: data sets, finished cells, heads in worker processes, tables and
plots."""
