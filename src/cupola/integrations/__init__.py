"""One file per library: all that Cupola knows of it. Imported only when a value of the library is met."""
