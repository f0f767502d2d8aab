function [labels, probabilities] = rcdp_predict(model, samples, lengths)
%RCDP_PREDICT  Predict raw samples with an exported model, in GNU Octave or MATLAB without further packages.
%
%   labels = rcdp_predict('model.mat', samples)
%   [labels, probabilities] = rcdp_predict(model, samples, lengths)
%
%   model          name of an exported file, or what load returns for it
%   samples        raw samples as in the source of the training data, rows first: (rows, features), (rows, steps,
%                  features), (rows, height, width) or (rows, height, width, channels)
%   lengths        for series of unequal length, padded to one length: the steps of each; default: all steps
%   labels         cell array (rows, 1) of class names
%   probabilities  (rows, classes), in the order of model.classes: calibrated ones if the model is calibrated. The label
%                  need not be the most probable class

  if ischar(model)
    model = load(model, '-mat');
  end
  if ~isfield(model, 'rcdp_format') || model.rcdp_format ~= 1
    error('rcdp_predict:model', 'not an exported model: expected the variables of a .mat file of rcdp export');
  end
  shape = double(model.sample_shape(:)');
  varying = model.varying_steps ~= 0;
  given = size(samples);
  given(end + 1:numel(shape) + 1) = 1;
  if numel(given) ~= numel(shape) + 1 || ~isequal(given(2 + varying:end), shape(1 + varying:end))
    error('rcdp_predict:shape', 'samples of the size %s: expected rows first, then %s', mat2str(given), mat2str(shape));
  end
  if nargin < 3
    lengths = [];
  end
  if ~isempty(lengths) && ~varying
    error('rcdp_predict:lengths', 'lengths: this model takes samples of one length');
  end
  if isempty(lengths)
    lengths = repmat(given(2), 1, given(1));
  end
  lengths = double(lengths(:)');
  if numel(lengths) ~= given(1) || any(lengths < 1) || any(lengths > given(2)) || any(lengths ~= fix(lengths))
    error('rcdp_predict:lengths', 'lengths: expected one for each of %d rows, from 1 to %d', given(1), given(2));
  end
  if strcmp(model.sample_dtype, 'float32')
    samples = single(samples);
  end
  % Rows last: with the axes in the opposite order the memory is that of the rows one after the other.
  samples = permute(double(samples), numel(given):-1:1);
  constants = dense_constants(model.constants);
  blocks = cell(1, 0);
  decisions = cell(1, 0);
  for first = 1:256:given(1)
    rows = first:min(first + 255, given(1));
    values = struct('samples', pick(samples, numel(given), 0, rows));
    values.lengths = lengths(rows);
    [blocks{end + 1}, decisions{end + 1}] = run_operations(model, constants, values);
  end
  probabilities = double([blocks{:}])';
  if isempty(blocks)
    probabilities = zeros(0, numel(model.classes));
    decisions = {probabilities'};
  end
  [~, best] = max(double([decisions{:}])', [], 2);
  names = cell(numel(model.classes), 1);
  for label = 1:numel(names)
    names{label} = native2unicode(uint8(model.classes{label}(:)'), 'UTF-8');
  end
  labels = reshape(names(best), [], 1);
end

function constants = dense_constants(stored)
  % Constants as double; 8-bit numbers are multiplied by the scale of their channel.
  constants = struct();
  names = fieldnames(stored);
  for number = 1:numel(names)
    value = stored.(names{number});
    if isstruct(value)
      form = ones(1, max(2, double(value.dimension)));
      form(double(value.dimension)) = numel(value.scale);
      value = double(value.codes) .* reshape(double(value.scale), form);
    end
    constants.(names{number}) = double(value);
  end
end

function [result, decision] = run_operations(model, constants, values)
  for number = 1:numel(model.ops)
    op = model.ops{number};
    inputs = cell(1, numel(op.inputs));
    for place = 1:numel(op.inputs)
      name = op.inputs{place};
      if isfield(constants, name)
        inputs{place} = constants.(name);
      else
        inputs{place} = values.(name);
      end
    end
    values.(op.output) = operation(op.kind, op.settings, double(op.axes), inputs);
    for place = 1:numel(op.finished)
      values = rmfield(values, op.finished{place});
    end
  end
  result = values.(model.output);
  decision = result;
  if isfield(model, 'decision')
    decision = values.(model.decision);
  end
end

function y = operation(kind, settings, axes, inputs)
  % Values have their axes in the opposite order of the shapes of the program: the rows are the last axis, number `axes`.
  x = inputs{1};
  switch kind
    case 'fill'
      values = inputs{2} + zeros(size(x));
      y = x;
      y(isnan(x)) = values(isnan(x));
    case 'affine'
      form = ones(1, max(2, axes));
      dimension = axes - settings.axis;
      parts = inputs(2:4);
      for number = 1:3
        form(dimension) = numel(parts{number});
        parts{number} = reshape(parts{number}, form);
      end
      y = (x - parts{1}) .* parts{2} + parts{3};
      if settings.double
        y = double(single(y));
      end
    case 'reshape'
      shape = fliplr(double(settings.shape(:)'));
      rows = size(x, axes);
      if any(shape < 0)
        shape(shape < 0) = numel(x) / (rows * prod(shape(shape > 0)));
      end
      y = reshape(x, [shape, rows, 1]);
    case 'transpose'
      order = double(settings.axes(:)');
      y = permute(x, [fliplr(axes - order), axes]);
    case 'slice'
      y = pick(x, axes, settings.axis, settings.start + 1:settings.step:settings.stop);
    case 'gather'
      y = pick(x, axes, settings.axis, inputs{2}(:)' + 1);
    case 'concat'
      y = cat(axes - settings.axis, inputs{:});
    case 'add'
      y = x + inputs{2};
    case 'multiply'
      y = x .* inputs{2};
    case 'activation'
      y = activation(settings, x);
    case 'linear'
      y = linear(inputs{2}, inputs{3}, x, axes);
    case 'conv2d'
      y = conv2d(settings, x, inputs{2}, inputs{3});
    case 'max_pool'
      high = settings.size(1);
      wide = settings.size(2);
      [width, height, channels, rows] = size(x);
      x = x(1:wide * floor(width / wide), 1:high * floor(height / high), :, :);
      x = reshape(x, [wide, floor(width / wide), high, floor(height / high), channels, rows]);
      y = max(max(x, [], 1), [], 3);
      y = reshape(y, [floor(width / wide), floor(height / high), channels, rows]);
    case 'layer_norm'
      centred = x - mean(x, 1);
      y = centred ./ sqrt(mean(centred .^ 2, 1) + settings.epsilon) .* inputs{2} + inputs{3};
    case 'attention'
      y = attention(settings, x);
    case 'lstm'
      y = lstm(x, inputs{2:4});
    case 'gru'
      y = gru(x, inputs{2:5});
    case 'softmax'
      y = exp(x - max(x, [], 1));
      y = y ./ sum(y, 1);
    case 'shares'
      y = shares(settings, x);
    case 'weighted_sum'
      y = 0;
      for number = 1:numel(inputs)
        y = y + settings.weights(number) * inputs{number};
      end
    case 'blank'
      y = x .* inside(x, lengths_of(x, inputs(2:end)));
    case 'windows'
      count = floor((size(x, 2) - settings.size) / settings.stride) + 1;
      steps = (1:settings.size)' + settings.stride * (0:count - 1);
      y = reshape(x(:, steps(:), :), [size(x, 1) * settings.size, count, size(x, 3)]);
    case 'window_lengths'
      y = floor((x - settings.size) / settings.stride) + 1;
    case 'standardise_series'
      y = standardise_series(settings, x, lengths_of(x, inputs(2:end)));
    case 'differences'
      y = differences(settings, x, lengths_of(x, inputs(2:end)));
    case 'reverse'
      y = x;
      lengths = lengths_of(x, inputs(2:end));
      for row = 1:size(x, 3)
        y(:, 1:lengths(row), row) = x(:, lengths(row):-1:1, row);
      end
    case 'delay'
      [features, steps, rows] = size(x);
      y = zeros(features * settings.window, steps, rows);
      for back = 0:min(settings.window, steps) - 1
        y(back * features + (1:features), back + 1:end, :) = x(:, 1:end - back, :);
      end
    case 'reservoir'
      y = reservoir(settings, x, inputs{2:7});
    case 'diagonal_reservoir'
      y = diagonal_reservoir(settings, x, inputs{2:7});
    case 'reduce'
      y = reduce(settings, x, lengths_of(x, inputs(2:end)));
    case 'kernels'
      y = kernels(settings, x, inputs{2}, lengths_of(x, inputs(3:end)));
    otherwise
      error('rcdp_predict:operation', 'unknown operation %s: the file is newer than this function', kind);
  end
end

function y = pick(x, axes, axis, entries)
  index = repmat({':'}, 1, max(2, axes));
  index{axes - axis} = entries;
  y = x(index{:});
end

function lengths = lengths_of(x, given)
  if isempty(given)
    lengths = repmat(size(x, 2), 1, size(x, 3));
  else
    lengths = given{1};
  end
end

function y = inside(x, lengths)
  % Whether each step is before the end of its series: (1, steps, rows).
  y = (1:size(x, 2)) <= reshape(lengths, 1, 1, []);
end

function y = activation(settings, x)
  switch settings.name
    case 'identity'
      y = x;
    case 'tanh'
      y = tanh(x);
    case 'sigmoid'
      y = sigmoid(x);
    case 'relu'
      slope = 0;
      if isfield(settings, 'slope')
        slope = settings.slope;
      end
      y = max(x, 0) + slope * min(x, 0);
    case 'gelu'
      y = x .* (1 + erf(x / sqrt(2))) / 2;
    case 'clip'
      y = x;
      if ~isempty(settings.low)
        y = max(y, settings.low);
      end
      if ~isempty(settings.high)
        y = min(y, settings.high);
      end
    case 'power'
      y = x .^ settings.exponent;
    case 'log'
      y = log(x);
    otherwise
      error('rcdp_predict:operation', 'unknown activation %s: the file is newer than this function', settings.name);
  end
end

function y = sigmoid(x)
  y = 1 ./ (1 + exp(-x));
end

function y = linear(weights, bias, x, axes)
  sizes = size(x);
  sizes(end + 1:axes) = 1;
  if nnz(weights) < 0.1 * numel(weights)
    weights = sparse(weights);
  end
  y = reshape(full(weights * reshape(x, sizes(1), [])) + bias, [size(weights, 1), sizes(2:end), 1]);
end

function y = conv2d(settings, x, kernels, bias)
  down = settings.stride(1);
  across = settings.stride(2);
  above = settings.padding(1);
  left = settings.padding(2);
  [width, height, channels, rows] = size(x);
  [wide, high, ~, outputs] = size(kernels);
  padded = zeros(channels, width + 2 * left, height + 2 * above, rows);
  padded(:, left + (1:width), above + (1:height), :) = permute(x, [3, 1, 2, 4]);
  columns = floor((width + 2 * left - wide) / across) + 1;
  lines = floor((height + 2 * above - high) / down) + 1;
  y = repmat(bias(:), 1, columns * lines * rows);
  for u = 1:high
    for v = 1:wide
      part = padded(:, v + across * (0:columns - 1), u + down * (0:lines - 1), :);
      weights = reshape(kernels(v, u, :, :), channels, outputs);
      y = y + weights' * reshape(part, channels, []);
    end
  end
  y = permute(reshape(y, [outputs, columns, lines, rows]), [2, 3, 1, 4]);
end

function y = attention(settings, x)
  [width, steps, rows] = size(x);
  width = width / 3;
  depth = width / settings.heads;
  y = zeros(width, steps, rows);
  for row = 1:rows
    for head = 0:settings.heads - 1
      place = head * depth + (1:depth);
      q = reshape(x(place, :, row), depth, steps);
      k = reshape(x(width + place, :, row), depth, steps);
      v = reshape(x(2 * width + place, :, row), depth, steps);
      scores = k' * q / sqrt(depth);
      weights = exp(scores - max(scores, [], 1));
      y(place, :, row) = v * (weights ./ sum(weights, 1));
    end
  end
end

function y = lstm(x, weights, recurrent, bias)
  [~, steps, rows] = size(x);
  units = size(recurrent, 2);
  driven = linear(weights, bias, x, 3);
  h = zeros(units, rows);
  c = h;
  y = zeros(units, steps, rows);
  for t = 1:steps
    gates = reshape(driven(:, t, :), [], rows) + recurrent * h;
    c = sigmoid(gates(units + (1:units), :)) .* c + sigmoid(gates(1:units, :)) .* tanh(gates(2 * units + (1:units), :));
    h = sigmoid(gates(3 * units + (1:units), :)) .* tanh(c);
    y(:, t, :) = h;
  end
end

function y = gru(x, weights, recurrent, bias, inner_bias)
  [~, steps, rows] = size(x);
  units = size(recurrent, 2);
  driven = linear(weights, bias, x, 3);
  h = zeros(units, rows);
  y = zeros(units, steps, rows);
  for t = 1:steps
    outer = reshape(driven(:, t, :), [], rows);
    inner = recurrent * h + inner_bias;
    r = sigmoid(outer(1:units, :) + inner(1:units, :));
    z = sigmoid(outer(units + (1:units), :) + inner(units + (1:units), :));
    m = tanh(outer(2 * units + (1:units), :) + r .* inner(2 * units + (1:units), :));
    h = (1 - z) .* m + z .* h;
    y(:, t, :) = h;
  end
end

function y = shares(settings, x)
  if settings.shift
    shifted = x - mean(x, 1) + 1 / size(x, 1);
    low = max(x, [], 1) <= settings.least;
    x(:, low) = shifted(:, low);
  end
  y = max(x, settings.least);
  if settings.shift
    y = y ./ max(max(y, [], 1), 1);
  end
  y = y ./ sum(y, 1);
end

function y = standardise_series(settings, x, lengths)
  within = inside(x, lengths);
  counts = reshape(lengths, 1, 1, []);
  first = x(:, 1, :);
  x(~(within & true(size(x)))) = 0;
  shifted = (x - first) .* within;
  average = sum(shifted, 2) ./ counts;
  centred = (shifted - average) .* within;
  deviation = sqrt(sum(centred .^ 2, 2) ./ counts);
  varies = deviation > settings.least * abs(average + first);
  deviation(~varies) = 1;
  y = double(single(centred ./ deviation .* varies));
end

function y = differences(settings, x, lengths)
  y = zeros(size(x));
  y(:, 2:end, :) = x(:, 2:end, :) - x(:, 1:end - 1, :);
  y(~(inside(x, lengths) & true(size(x)))) = 0;
  if settings.scaling ~= 0
    y = double(single(y * settings.scaling));
    return
  end
  squares = sum(y .^ 2, 2) ./ max(reshape(lengths, 1, 1, []) - 1, 1);
  squares(squares == 0) = 1;
  y = double(single(y ./ sqrt(squares)));
end

function y = reservoir(settings, x, data, indices, starts, weights, bias, leak)
  nodes = numel(bias);
  counts = diff(starts(:));
  filled = cumsum(accumarray(cumsum([1; counts]), 1, [sum(counts) + 1, 1]));
  recurrent = sparse(filled(1:end - 1), indices(:) + 1, data(:), nodes, nodes);
  y = leaky(settings, linear(weights, bias, x, 3), leak, recurrent);
end

function y = leaky(settings, driven, leak, recurrent)
  [nodes, steps, rows] = size(driven);
  state = zeros(nodes, rows);
  y = zeros(nodes, steps, rows);
  kind = struct('name', settings.activation);
  for t = 1:steps
    moved = reshape(driven(:, t, :), nodes, rows);
    if ~isempty(recurrent) && t > 1
      moved = moved + recurrent * state;
    end
    state = (1 - leak) .* state + leak .* activation(kind, moved);
    y(:, t, :) = state;
  end
end

function y = diagonal_reservoir(settings, x, along, across, weights, mixing, bias, leak)
  [~, steps, rows] = size(x);
  units = numel(along);
  driven = linear(weights, 0, x, 3);
  re = zeros(units, rows);
  im = re;
  memory = zeros(2 * units, steps, rows);
  for t = 1:steps
    next = along .* re - across .* im + reshape(driven(:, t, :), units, rows);
    im = along .* im + across .* re;
    re = next;
    memory(:, t, :) = [re; im];
  end
  y = leaky(settings, linear(mixing, bias, memory, 3), leak, []);
end

function y = reduce(settings, x, lengths)
  [features, ~, rows] = size(x);
  warm_up = 0;
  if isfield(settings, 'warm_up')
    warm_up = settings.warm_up;
  end
  if isfield(settings, 'count')
    count = settings.count;
  end
  parts = cell(1, rows);
  for row = 1:rows
    last = lengths(row);
    counted = x(:, warm_up + 1:last, row);
    switch settings.name
      case 'steps'
        chosen = settings.steps(:)';
        parts{row} = x(:, chosen + 1 + last * (chosen < 0), row);
      case 'spaced'
        parts{row} = x(:, warm_up + floor((1:count) * (last - warm_up) / count), row);
      case 'mean'
        parts{row} = mean(counted, 2);
      case 'std'
        parts{row} = sqrt(mean((counted - mean(counted, 2)) .^ 2, 2));
      case 'max'
        parts{row} = max(counted, [], 2);
      case 'positive'
        parts{row} = mean(double(counted > 0), 2);
      case 'segments'
        part = zeros(features, count);
        edges = warm_up + floor((0:count) * (last - warm_up) / count);
        for number = 1:count
          part(:, number) = mean(x(:, edges(number) + 1:max(edges(number + 1), edges(number) + 1), row), 2);
        end
        parts{row} = part;
      case 'all'
        part = zeros(features, count);
        kept = min(count, last);
        part(:, count - kept + 1:count) = x(:, last - kept + 1:last, row);
        parts{row} = part;
      otherwise
        error('rcdp_predict:operation', 'unknown reduction %s: the file is newer than this function', settings.name);
    end
  end
  y = cat(3, parts{:});
end

function y = kernels(settings, x, biases, lengths)
  % The biases are (kernels, bias rows). In single precision: a feature is a count of comparisons.
  [channels, steps, rows] = size(x);
  within = inside(x, lengths);
  x(~(within & true(size(x)))) = 0;
  ends = reshape(lengths, 1, 1, []);
  y = zeros(84, numel(settings.dilations), rows);
  for number = 1:numel(settings.dilations)
    pad = 4 * settings.dilations(number);
    padded = zeros(channels, steps + 2 * pad, rows, 'single');
    padded(:, pad + (1:steps), :) = x;
    shifts = cell(1, 9);
    totals = zeros(channels, steps, rows, 'single');
    for place = 1:9
      shifts{place} = padded(:, (place - 1) * settings.dilations(number) + (1:steps), :);
      totals = totals + shifts{place};
      shifts{place} = 3 * shifts{place};
    end
    counted = within;
    if settings.inner(number)
      middle = (1:steps) > pad & (1:steps) <= ends - pad;
      counted = (middle & ends > 2 * pad) | (within & ends <= 2 * pad);
    end
    kernel = 0;
    pair = 0;
    for one = 1:7
      for two = one + 1:8
        pair = pair + 1;
        chosen = 1;
        if ~isempty(settings.channels)
          chosen = double(settings.channels{number, pair}(:)') + 1;
        end
        start = (summed(shifts{one}, chosen) - summed(totals, chosen)) + summed(shifts{two}, chosen);
        for three = two + 1:9
          kernel = kernel + 1;
          above = start + summed(shifts{three}, chosen) > single(biases(kernel, number));
          y(kernel, number, :) = sum(above & counted, 2) ./ sum(counted, 2);
        end
      end
    end
  end
  y = reshape(y, [], rows);
end

function y = summed(x, channels)
  y = x(channels(1), :, :);
  for channel = channels(2:end)
    y = y + x(channel, :, :);
  end
end
