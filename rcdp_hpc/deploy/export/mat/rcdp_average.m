function model = rcdp_average(files, to, weights)
%RCDP_AVERAGE  Average the exported models of several nodes, which were trained on parts of the data.
%
%   rcdp_average({'node1.mat', 'node2.mat'}, 'average.mat')
%   model = rcdp_average(files, to, weights)
%
%   files    cell array of names of exported files
%   to       name of the file to write; '' to write none
%   weights  weight of each file; default: how many training values each node had
%   model    what load returns for the file; rcdp_predict takes it
%
%   The models must have the same settings, seed and classes, and the same scaling of raw samples: what is not trained
%   must be equal. 8-bit numbers become single.

  if ~iscell(files) || numel(files) < 2
    error('rcdp_average:files', 'expected a cell array of the names of at least two files');
  end
  if nargin < 2
    to = '';
  end
  nodes = cell(1, numel(files));
  for node = 1:numel(files)
    nodes{node} = load(files{node}, '-mat');
    if ~isfield(nodes{node}, 'rcdp_format') || nodes{node}.rcdp_format ~= 1
      error('rcdp_average:model', '%s: not an exported model of rcdp', files{node});
    end
  end
  model = nodes{1};
  values = zeros(1, numel(files));
  for node = 1:numel(files)
    values(node) = double(nodes{node}.training_values);
    for part = {'classes', 'ops', 'sample_shape', 'output'}
      if ~isequal(nodes{node}.(part{1}), model.(part{1}))
        error('rcdp_average:settings', '%s: other %s than %s: expected models of the same settings', ...
              files{node}, part{1}, files{1});
      end
    end
  end
  if nargin < 3
    weights = values;
  end
  weights = double(weights(:)');
  if numel(weights) ~= numel(files) || any(~isfinite(weights)) || any(weights < 0) || sum(weights) <= 0
    error('rcdp_average:weights', 'weights: expected %d numbers of at least 0, one of them above 0', numel(files));
  end
  weights = weights / sum(weights);
  names = fieldnames(model.constants);
  for number = 1:numel(names)
    name = names{number};
    total = 0;
    for node = 1:numel(nodes)
      if ~isfield(nodes{node}.constants, name)
        error('rcdp_average:settings', '%s: has no %s: expected models of the same settings', files{node}, name);
      end
      value = nodes{node}.constants.(name);
      if any(strcmp(name, model.trained))
        if isstruct(value)
          form = ones(1, max(2, double(value.dimension)));
          form(double(value.dimension)) = numel(value.scale);
          value = double(value.codes) .* reshape(double(value.scale), form);
        end
        if node > 1 && ~isequal(size(value), size(total))
          error('rcdp_average:settings', '%s: %s has another size than in %s', files{node}, name, files{1});
        end
        total = total + weights(node) * double(value);
      elseif ~isequal(value, model.constants.(name))
        error('rcdp_average:fixed', ...
              '%s: %s differs from %s and cannot be averaged: expected models of the same seed and scaling', ...
              files{node}, name, files{1});
      end
    end
    if any(strcmp(name, model.trained))
      model.constants.(name) = single(total);
    end
  end
  model.training_values = sum(values);
  if ~isempty(to)
    if exist('OCTAVE_VERSION', 'builtin')
      save('-v7', to, '-struct', 'model');
    else
      save(to, '-struct', 'model', '-v7');
    end
  end
end
