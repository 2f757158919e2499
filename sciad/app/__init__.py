"""The top floor: command line, runs on disk, reports and built-in studies."""
