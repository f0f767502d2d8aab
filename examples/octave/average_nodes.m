% Load the models of several nodes, predict with each, and average their parameters, in GNU Octave or MATLAB.
%
%   python examples/nodes.py FOLDER
%   cd FOLDER && octave-cli /path/to/examples/octave/average_nodes.m
%
% The current folder has the exported files of the nodes, the functions that rcdp export writes next to them, and
% samples.mat with raw samples and their labels.

files = {'node1.mat', 'node2.mat'};
data = load('samples.mat');

for node = 1:numel(files)
  model = load(files{node});
  labels = rcdp_predict(model, data.samples);
  correct = sum(strcmp(labels, data.labels));
  fprintf('%s: %d of %d correct, %d training rows\n', files{node}, correct, numel(labels), model.training_rows);
end

average = rcdp_average(files, 'average.mat');
[labels, probabilities] = rcdp_predict('average.mat', data.samples);
correct = sum(strcmp(labels, data.labels));
fprintf('average.mat: %d of %d correct, %d training rows\n', correct, numel(labels), average.training_rows);
fprintf('first sample: %s (%.3f)\n', labels{1}, max(probabilities(1, :)));
