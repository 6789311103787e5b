"""What a run was made from: commit, changes, source tree, interpreter, libraries; gathered while its steps run."""
