import DLCTensor
import Testing

@testable import DLCONNX

/// Operators of com.microsoft.
@Suite struct MicrosoftOperatorTests {
  private func run(
    _ type: String, _ inputs: [Tensor?], _ attributes: [String: ONNXAttribute] = [:],
    outputs: Int = 1
  ) throws -> [Tensor] {
    try OneNode.run(
      type, inputs, attributes, domain: "com.microsoft", opset: 1, outputs: outputs)
  }

  private func floats(_ shape: [Int], _ values: [Double]) -> Tensor {
    OneNode.floats(shape, values)
  }

  // MARK: Small integers

  private func bytes(_ shape: [Int], _ values: [Int64]) -> Tensor {
    OneNode.integers(shape, values, .uint8)
  }

  @Test func smallIntegersAreSoftenedPooledAndChosen() throws {
    let zero = bytes([], [0])
    let soft = try run(
      "QLinearSoftmax",
      [bytes([1, 2], [0, 10]), floats([], [0.1]), zero, floats([], [1.0 / 256]), zero],
      ["axis": .integer(-1), "opset": .integer(13)])[0]
    #expect(soft.integers == [69, 187])
    let pooled = try run(
      "QLinearAveragePool",
      [
        bytes([1, 1, 1, 4], [1, 3, 5, 7]), floats([], [0.5]), bytes([], [1]), floats([], [0.5]),
        zero,
      ],
      ["kernel_shape": .integers([1, 2]), "strides": .integers([1, 2])])[0]
    #expect(pooled.shape == [1, 1, 1, 2] && pooled.integers == [1, 5])
    let last = try run(
      "QLinearAveragePool",
      [
        bytes([1, 1, 4, 1], [1, 3, 5, 7]), floats([], [0.5]), bytes([], [1]), floats([], [0.5]),
        zero,
      ],
      [
        "kernel_shape": .integers([1, 2]), "strides": .integers([1, 2]),
        "channels_last": .integer(1),
      ])[0]
    #expect(last.shape == [1, 1, 2, 1] && last.integers == [1, 5])
    let chosen = try run(
      "QLinearWhere",
      [
        OneNode.integers([2], [1, 0], .bool), bytes([2], [10, 20]), floats([], [0.1]), zero,
        bytes([2], [30, 40]), floats([], [0.2]), zero, floats([], [0.5]), zero,
      ])[0]
    #expect(chosen.integers == [2, 16])
  }

  // MARK: Products

  @Test func batchAxesAreTransposedBeforeMatrices() throws {
    // [k, batch, m] for A: its first axis becomes the last but one, then the two are exchanged.
    let a = floats([2, 1, 3], [1, 2, 3, 4, 5, 6])
    let b = floats([1, 2, 1], [1, 10])
    let y = try run(
      "FusedMatMul", [a, b],
      ["transBatchA": .integer(1), "transA": .integer(1), "alpha": .float(2)])[0]
    #expect(y.shape == [1, 3, 1] && y.doubles == [82, 104, 126])
  }

  @Test func packedWeightsStandLowBitsFirst() throws {
    // 9, 10, 7, 8 around 8, in halves.
    let weights = OneNode.integers([1, 1, 2], [0xA9, 0x87], .uint8)
    let attributes: [String: ONNXAttribute] = [
      "N": .integer(1), "K": .integer(4), "block_size": .integer(4),
    ]
    let y = try run(
      "MatMulNBits", [floats([1, 4], [1, 10, 100, 1000]), weights, floats([1], [0.5])], attributes)
    #expect(y[0].doubles == [-39.5])
    // The first of the packed zeros is the low half too.
    let zeros = OneNode.integers([1], [0xF7], .uint8)
    let moved = try run(
      "MatMulNBits", [floats([1, 4], [1, 10, 100, 1000]), weights, floats([1], [0.5]), zeros],
      attributes)
    #expect(moved[0].doubles == [516])
  }

  // MARK: Small integers

  @Test func dynamicProductIsOfTheInputsRange() throws {
    let y = try run(
      "DynamicQuantizeMatMul",
      [
        floats([1, 2], [0, 255]), OneNode.integers([2, 1], [1, -2], .int8), floats([], [0.5]),
        OneNode.integers([], [1], .int8), floats([1], [1]),
      ])
    #expect(y[0].doubles == [-381.5])
  }

  @Test func productsOfUnsignedAndSignedBytesAreExact() throws {
    let a = OneNode.integers([1, 2], [255, 128], .uint8)
    let b = OneNode.integers([2, 1], [-128, 127], .int8)
    let y = try run(
      "MatMulIntegerToFloat",
      [
        a, b, floats([], [1]), floats([1], [2]), OneNode.integers([], [3], .uint8),
        OneNode.integers([1], [-1], .int8),
      ])
    // 2 ((255 - 3) (-128 + 1) + (128 - 3) (127 + 1)).
    #expect(y[0].doubles == [-32008])
  }

  @Test func sumsAreRoundedToTheResultsScale() throws {
    func byte(_ value: Int64) -> Tensor { OneNode.integers([], [value], .uint8) }
    let y = try run(
      "QLinearAdd",
      [
        OneNode.integers([2], [10, 255], .uint8), floats([], [0.5]), byte(8),
        OneNode.integers([1], [20], .uint8), floats([], [0.25]), byte(16), floats([], [0.125]),
        byte(3),
      ])
    // 1 + 1 = 2 is 16 eighths; the other does not fit.
    #expect(y[0].integers == [19, 255])
  }

  @Test func recurrentWeightsAreSmallIntegers() throws {
    func bytes(_ shape: [Int], _ values: [Int64]) -> Tensor {
      OneNode.integers(shape, values, .int8)
    }
    // Of the gates only the cell's has a weight: tanh 2, half of which is kept.
    let y = try run(
      "DynamicQuantizeLSTM",
      [
        floats([1, 1, 1], [1]), bytes([1, 1, 4], [1, 1, 1, 5]), bytes([1, 1, 4], [0, 0, 0, 0]), nil,
        nil, nil, nil, nil, floats([1], [0.5]), bytes([1], [1]), floats([1, 4], [1, 1, 1, 1]),
        bytes([1, 4], [0, 0, 0, 0]),
      ], ["hidden_size": .integer(1)], outputs: 3)
    #expect(near(y[1].doubles, [0.2239274686640464]))
    #expect(near(y[2].doubles, [0.48201379003790845]))
  }

  // MARK: Attention

  @Test func eachEntryOfACacheHasItsLength() throws {
    // Keys of zeros: all that are seen weigh alike. The first entry has one key before, the second two.
    let zeros = floats([2, 1, 1], [0, 0])
    let past = floats([2, 1, 2, 1], [1, 64, 2, 4])
    func attend(_ window: Int) throws -> [Tensor] {
      try run(
        "GroupQueryAttention",
        [
          zeros, zeros, floats([2, 1, 1], [16, 32]), floats([2, 1, 2, 1], [0, 0, 0, 0]), past,
          OneNode.integers([2], [1, 2], .int32), OneNode.integers([], [3], .int32),
        ],
        [
          "num_heads": .integer(1), "kv_num_heads": .integer(1),
          "local_window_size": .integer(window),
        ], outputs: 3)
    }
    let y = try attend(-1)
    #expect(near(y[0].doubles, [17.0 / 2, 38.0 / 3]))
    #expect(y[2].shape == [2, 1, 3, 1] && y[2].doubles == [1, 16, 0, 2, 4, 32])
    #expect(near(try attend(2)[0].doubles, [17.0 / 2, 18]))
  }

  @Test func paddingIsSaidByMasksOrByLengths() throws {
    let zeros = floats([1, 2, 1], [0, 0])
    let values = floats([1, 2, 1], [1, 2])
    func attend(_ mask: Tensor) throws -> [Double] {
      try run(
        "MultiHeadAttention", [zeros, zeros, values, nil, mask], ["num_heads": .integer(1)])[0]
        .doubles
    }
    #expect(try attend(OneNode.integers([1, 2], [0, 1], .int32)) == [2, 2])
    #expect(try attend(OneNode.integers([1], [1], .int32)) == [1, 1])
    #expect(try attend(OneNode.integers([1, 2, 2], [1, 1, 0, 1], .int32)) == [1.5, 2])
  }
}
