"""TensorFlow's MobileNetV2 networks and NASNet-A written with tf.nn alone, under the names that its checkpoints use.

An independent statement of what the importers must reproduce: nothing here comes from mnv2_tasks.
"""

import numpy as np

BLOCKS = [
    (t, c, s if i == 0 else 1)
    for t, c, n, s in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                       (6, 320, 1, 1)]
    for i in range(n)
]  # fmt: skip


def divisible(channels):
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class TFNetwork:
    """Draws each variable when it is first used, so that one forward pass also lists a checkpoint's content.

    The variables are float32, as in a checkpoint; the arithmetic is float64 unless asked otherwise: a comparison is
    then one of networks and not of rounding (logits around 10 differ by 1e-4 in float32). Images are in [0, 255],
    NHWC, or already in [-1, 1] if `normalised`.
    """

    def __init__(self, tf, width, seed=0, dtype="float64", normalised=False):
        self.normalised = normalised
        self.tf, self.width, self.rng, self.dtype = tf, width, np.random.default_rng(seed), dtype
        self.variables: dict[str, np.ndarray] = {}

    def variable(self, name, shape, mean, spread):
        if name not in self.variables:
            self.variables[name] = (mean + spread * self.rng.uniform(-1, 1, shape)).astype(np.float32)
        return self.tf.constant(self.variables[name], self.dtype)

    def norm(self, scope, x, eps, under="/BatchNorm"):
        stats = [
            self.variable(f"{scope}{under}/{name}", x.shape[-1], mean, spread)
            for name, mean, spread in [
                ("gamma", 1.0, 0.3), ("beta", 0.0, 0.3), ("moving_mean", 0.0, 0.2), ("moving_variance", 1.0, 0.3)
            ]
        ]  # fmt: skip
        gamma, beta, mean, variance = stats
        return (x - mean) * self.tf.math.rsqrt(variance + eps) * gamma + beta

    def conv(self, scope, x, out, kernel, stride=1, rate=1, activation="relu6", eps=1e-3, biased=False):
        fan_in = kernel * kernel * x.shape[-1]
        weights = self.variable(f"{scope}/weights", (kernel, kernel, x.shape[-1], out), 0.0, (6 / fan_in) ** 0.5)
        x = self.tf.nn.conv2d(x, weights, stride, "SAME", dilations=rate)
        if biased:
            return x + self.variable(f"{scope}/biases", out, 0.0, 0.5)
        return self.activate(self.norm(scope, x, eps), activation)

    def depthwise(self, scope, x, stride=1, rate=1):
        weights = self.variable(f"{scope}/depthwise_weights", (3, 3, x.shape[-1], 1), 0.0, 0.8)
        x = self.tf.nn.depthwise_conv2d(x, weights, (1, stride, stride, 1), "SAME", dilations=(rate, rate))
        return self.activate(self.norm(scope, x, 1e-3), "relu6")

    def activate(self, x, name):
        return {"relu6": self.tf.nn.relu6, "relu": self.tf.nn.relu, "linear": lambda x: x}[name](x)

    def backbone(self, scope, images, output_stride=32):
        """(block 13's expansion, block 16's output)."""
        images = self.tf.cast(images, self.dtype)
        images = images if self.normalised else images / 127.5 - 1
        x = self.conv(f"{scope}/Conv", images, divisible(32 * self.width), 3, stride=2)
        reached, rate = 2, 1
        for i, (expansion, channels, stride) in enumerate(BLOCKS):
            block = f"{scope}/expanded_conv" + (f"_{i}" if i else "")
            out = divisible(channels * self.width)
            wide = self.conv(f"{block}/expand", x, x.shape[-1] * expansion, 1) if expansion > 1 else x
            if i == 13:
                expansion_13 = wide
            if stride > 1 and reached >= output_stride:  # the layer that loses its stride keeps the old rate
                y, rate = self.depthwise(f"{block}/depthwise", wide, 1, rate), rate * stride
            else:
                y, reached = self.depthwise(f"{block}/depthwise", wide, stride, rate), reached * stride
            y = self.conv(f"{block}/project", y, out, 1, activation="linear")
            x = x + y if stride == 1 and x.shape[-1] == out else y
        return expansion_13, x

    def classifier(self, images, classes=1001, final=1280):
        """(B, classes) logits, slim's mobilenet_v2."""
        x = self.conv("MobilenetV2/Conv_1", self.backbone("MobilenetV2", images)[1], final, 1)
        x = self.tf.reduce_mean(x, (1, 2), keepdims=True)
        return self.conv("MobilenetV2/Logits/Conv2d_1c_1x1", x, classes, 1, biased=True)[:, 0, 0]

    def classifier_v1(self, images, classes=1001):
        """(B, classes) logits, slim's mobilenet_v1."""
        x = self.tf.cast(images, self.dtype) / 127.5 - 1
        x = self.conv("MobilenetV1/Conv2d_0", x, divisible(32 * self.width), 3, stride=2)
        channels = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
        for i, out in enumerate(channels, start=1):
            x = self.depthwise(f"MobilenetV1/Conv2d_{i}_depthwise", x, 2 if i in (2, 4, 6, 12) else 1)
            x = self.conv(f"MobilenetV1/Conv2d_{i}_pointwise", x, divisible(out * self.width), 1)
        x = self.tf.reduce_mean(x, (1, 2), keepdims=True)
        return self.conv("MobilenetV1/Logits/Conv2d_1c_1x1", x, classes, 1, biased=True)[:, 0, 0]

    def ssdlite(self, images, columns=91):
        """(B, A, 4) codes and (B, A, columns) logits, the Object Detection API's ssdlite_mobilenet_v2."""
        scope = "FeatureExtractor/MobilenetV2"
        wide, x = self.backbone(scope, images)
        maps = [wide, self.conv(f"{scope}/Conv_1", x, divisible(1280 * self.width), 1)]
        for i, channels in enumerate((512, 256, 256, 128)):
            half, full = (max(16, int(c * self.width)) for c in (channels // 2, channels))
            x = self.conv(f"{scope}/layer_19_1_Conv2d_{i + 2}_1x1_{half}", maps[-1], half, 1)
            name = f"{scope}/layer_19_2_Conv2d_{i + 2}_3x3_s2_{full}"
            maps.append(self.conv(name, self.depthwise(f"{name}_depthwise", x, 2), full, 1))
        codes, logits = [], []
        for i, x in enumerate(maps):
            for rows, name, size in [(codes, "BoxEncodingPredictor", 4), (logits, "ClassPredictor", columns)]:
                scope = f"BoxPredictor_{i}/{name}"
                y = self.depthwise(f"{scope}_depthwise", x)
                y = self.conv(scope, y, (3 if i == 0 else 6) * size, 1, biased=True)
                rows.append(self.tf.reshape(y, (y.shape[0], -1, size)))
        return self.tf.concat(codes, 1), self.tf.concat(logits, 1)

    def deeplab(self, images, rates=(), classes=21, output_stride=16):
        """(B, h, w, classes) logits, DeepLab's mobilenet_v2 with regular atrous branches."""
        _, x = self.backbone("MobilenetV2", images, output_stride)
        head = {"activation": "relu", "eps": 1e-5}
        pooled = self.conv("image_pooling", self.tf.reduce_mean(x, (1, 2), keepdims=True), 256, 1, **head)
        if self.dtype == "float32":
            pooled = self.tf.image.resize(pooled, x.shape[1:3])  # as DeepLab does; its result is float32 always
        else:
            pooled = self.tf.broadcast_to(pooled, (*x.shape[:3], 256))
        branches = [pooled, self.conv("aspp0", x, 256, 1, **head)]
        for i, rate in enumerate(rates):
            branches.append(self.conv(f"aspp{i + 1}", x, 256, 3, rate=rate, **head))
        x = self.conv("concat_projection", self.tf.concat(branches, -1), 256, 1, **head)
        return self.conv("logits/semantic", x, classes, 1, biased=True)


class TFNasnet(TFNetwork):
    """TF slim's nasnet_mobile: nasnet.py and nasnet_utils.py, operation by operation, with its auxiliary classifier."""

    NORMAL = (
        "separable_5x5_2", "separable_3x3_2", "separable_5x5_2", "separable_3x3_2", "avg_pool_3x3", "none",
        "avg_pool_3x3", "avg_pool_3x3", "separable_3x3_2", "none",
    ), (0, 1, 1, 1, 0, 1, 1, 1, 0, 0), (1, 0, 0, 0, 0, 0, 0)  # fmt: skip
    REDUCTION = (
        "separable_5x5_2", "separable_7x7_2", "max_pool_3x3", "separable_7x7_2", "avg_pool_3x3", "separable_5x5_2",
        "none", "avg_pool_3x3", "separable_3x3_2", "max_pool_3x3",
    ), (0, 1, 0, 1, 0, 1, 3, 2, 2, 0), (1, 1, 1, 0, 0, 0, 0)  # fmt: skip

    def __init__(self, tf):
        super().__init__(tf, width=1.0)

    def bn(self, scope, x):
        return self.norm(scope, x, 1e-3, under="")

    def kernel(self, scope, x, out, size=1, stride=1, padding="SAME", name="weights"):
        fan_in = size * size * x.shape[-1]
        weights = self.variable(f"{scope}/{name}", (size, size, x.shape[-1], out), 0.0, (6 / fan_in) ** 0.5)
        return self.tf.nn.conv2d(x, weights, stride, padding)

    def separable(self, scope, kind, x, out, stride):
        _, size, layers = kind.split("_")
        side = int(size[0])
        for layer in range(1, int(layers) + 1):
            x = self.tf.nn.relu(x)
            name = f"{scope}/separable_{size}_{layer}"
            weights = self.variable(f"{name}/depthwise_weights", (side, side, x.shape[-1], 1), 0.0, 2.4 / side)
            x = self.tf.nn.depthwise_conv2d(x, weights, (1, stride, stride, 1), "SAME")
            x = self.bn(f"{scope}/bn_sep_{size}_{layer}", self.kernel(name, x, out, name="pointwise_weights"))
            stride = 1
        return x

    def factorized_reduction(self, scope, x, out):
        path1 = self.tf.nn.avg_pool2d(x, 1, 2, "VALID")
        path2 = self.tf.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
        path2 = self.tf.nn.avg_pool2d(path2, 1, 2, "VALID")
        paths = (self.kernel(f"{scope}/path{n}_conv", y, out // 2) for n, y in ((1, path1), (2, path2)))
        return self.bn(f"{scope}/final_path_bn", self.tf.concat(list(paths), -1))

    def cell(self, scope, net, previous, filters, stride):
        operations, states_of, used = self.NORMAL if stride == 1 else self.REDUCTION
        if previous is None:
            previous = net
        elif previous.shape[1] != net.shape[1]:
            previous = self.factorized_reduction(scope, self.tf.nn.relu(previous), filters)
        elif previous.shape[-1] != filters:
            fitted = self.kernel(f"{scope}/prev_1x1", self.tf.nn.relu(previous), filters)
            previous = self.bn(f"{scope}/prev_bn", fitted)
        net = self.bn(f"{scope}/beginning_bn", self.kernel(f"{scope}/1x1", self.tf.nn.relu(net), filters))
        states = [net, previous]
        for pair in range(5):
            results = []
            for side, index in (("left", 2 * pair), ("right", 2 * pair + 1)):
                kind, x = operations[index], states[states_of[index]]
                step = stride if states_of[index] < 2 else 1
                if kind.startswith("separable"):
                    x = self.separable(f"{scope}/comb_iter_{pair}/{side}", kind, x, filters, step)
                elif kind != "none":
                    pool = self.tf.nn.avg_pool2d if kind.startswith("avg") else self.tf.nn.max_pool2d
                    x = pool(x, 3, step, "SAME")
                results.append(x)
            states.append(results[0] + results[1])
        return self.tf.concat([x for x, is_used in zip(states, used) if not is_used], -1)

    def classifier(self, images, classes=1001):
        """((B, classes) logits, those of the auxiliary classifier)."""
        images = self.tf.cast(images, self.dtype) / 127.5 - 1
        net = self.bn("conv0_bn", self.kernel("conv0", images, 32, size=3, stride=2, padding="VALID"))
        outputs = [None, net]
        for number in range(2):
            outputs.append(self.cell(f"cell_stem_{number}", outputs[-1], outputs[-2], 44 // 4 * 2**number, 2))
        filters = 44
        for number in range(12):
            if number in (4, 8):
                filters *= 2
                name = f"reduction_cell_{number // 4 - 1}"
                outputs.append(self.cell(name, outputs[-1], outputs[-2], filters, 2))
            outputs.append(self.cell(f"cell_{number}", outputs[-1], outputs[-2], filters, 1))
            if number == 7:
                auxiliary = self.auxiliary(self.tf.nn.relu(outputs[-1]), classes)
        return self.linear(
            "final_layer/FC", self.tf.reduce_mean(self.tf.nn.relu(outputs[-1]), (1, 2)), classes
        ), auxiliary

    def auxiliary(self, net, classes):
        scope = "aux_7/aux_logits"
        net = self.tf.nn.avg_pool2d(net, 5, 3, "VALID")
        net = self.tf.nn.relu(self.bn(f"{scope}/aux_bn0", self.kernel(f"{scope}/proj", net, 128)))
        net = self.kernel(f"{scope}/Conv", net, 768, size=net.shape[1], padding="VALID")
        net = self.tf.nn.relu(self.bn(f"{scope}/aux_bn1", net))
        return self.linear(f"{scope}/FC", net[:, 0, 0], classes)

    def linear(self, scope, x, out):
        weights = self.variable(f"{scope}/weights", (x.shape[-1], out), 0.0, (3 / x.shape[-1]) ** 0.5)
        return x @ weights + self.variable(f"{scope}/biases", out, 0.0, 0.5)
