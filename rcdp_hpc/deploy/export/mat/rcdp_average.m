function model = rcdp_average(files, to, weights)
%RCDP_AVERAGE  Average the exported models of several nodes, which were trained on parts of the data.
%
%   rcdp_average({'node1.mat', 'node2.mat'}, 'average.mat')
%   model = rcdp_average(files, to, weights)
%
%   files    cell array of names of exported files
%   to       name of the file to write; '' to write none
%   weights  weight of each file; default: the training rows of each node, without synthetic ones
%   model    what load returns for the file; rcdp_predict takes it
%
%   The models must have the same settings, seed and classes. Averaged are trained weights and the statistics of samples:
%   the standardisation becomes the one of all samples. 8-bit numbers become single. All else must be equal.

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
  rows = zeros(1, numel(files));
  for node = 1:numel(files)
    rows(node) = double(nodes{node}.training_rows);
    for part = {'classes', 'ops', 'sample_shape', 'output', 'scaling', 'trained'}
      if ~isequal(nodes{node}.(part{1}), model.(part{1}))
        error('rcdp_average:settings', '%s: other %s than %s: expected models of the same settings', ...
              files{node}, part{1}, files{1});
      end
    end
  end
  if nargin < 3
    weights = rows;
    if any(rows == 0)
      error('rcdp_average:weights', '%s: the training rows are not recorded: give the weights', files{find(rows == 0, 1)});
    end
  end
  weights = double(weights(:)');
  if numel(weights) ~= numel(files) || any(~isfinite(weights)) || any(weights < 0) || sum(weights) <= 0
    error('rcdp_average:weights', 'weights: expected %d numbers of at least 0, one of them above 0', numel(files));
  end
  weights = weights / sum(weights);
  names = fieldnames(model.constants);
  for number = 1:numel(names)
    name = names{number};
    if any(strcmp(name, {model.scaling.center, model.scaling.scale, model.scaling.fill}))
      continue
    end
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
  model = average_scaling(model, nodes, weights);
  model.training_rows = sum(rows);
  if ~isempty(to)
    if exist('OCTAVE_VERSION', 'builtin')
      save('-v7', to, '-struct', 'model');
    else
      save(to, '-struct', 'model', '-v7');
    end
  end
end

function model = average_scaling(model, nodes, weights)
  % The fill values, and the standardisation of all samples: for 'standard' of their means and variances.
  scaling = model.scaling;
  if ~isempty(scaling.fill)
    model.constants.(scaling.fill) = weighted(nodes, weights, scaling.fill);
  end
  if isempty(scaling.center)
    return
  end
  center = weighted(nodes, weights, scaling.center);
  deviation = 0;
  for node = 1:numel(nodes)
    own = 1 ./ nodes{node}.constants.(scaling.scale);
    if strcmp(scaling.method, 'standard')
      own = own .^ 2 + (nodes{node}.constants.(scaling.center) - center) .^ 2;
    end
    deviation = deviation + weights(node) * own;
  end
  if strcmp(scaling.method, 'standard')
    deviation = sqrt(deviation);
  end
  model.constants.(scaling.center) = center;
  model.constants.(scaling.scale) = 1 ./ deviation;
end

function total = weighted(nodes, weights, name)
  total = 0;
  for node = 1:numel(nodes)
    total = total + weights(node) * nodes{node}.constants.(name);
  end
end
