import DLCTensor
import Foundation
import Testing

/// Arrays in the element types that functions take.
@Suite struct ArrayConversionTests {
  static func real(_ type: DataType, _ values: [Double]) -> Tensor {
    Tensor(type, [values.count], rounding: values)
  }

  static func whole(_ type: DataType, _ values: [Int64]) -> Tensor {
    Tensor(type, [values.count], truncating: values)
  }

  @Test func numbersStayWhatTheyAre() throws {
    let small = Self.whole(.int64, [0, 1, -7, 100])
    for type in DataType.allCases where type != .bool && !type.rawValue.hasPrefix("uint") {
      let there = try small.fitted(to: type, name: "a")
      #expect(there.dataType == type && there.shape == [4])
      #expect(try there.fitted(to: .int64, name: "a") == small, "\(type)")
    }
    #expect(try Self.whole(.uint64, [-1]).fitted(to: .uint64, name: "a").integers == [-1])
    #expect(
      try Self.real(.float64, [0x1p63]).fitted(to: .uint64, name: "a").integers == [Int64.min])
    // Narrower floating-point types round to nearest, also what is not finite.
    let rounded = try Self.real(.float64, [0.1, .infinity, -.nan]).fitted(to: .float32, name: "a")
    #expect(rounded.doubles[0] == Double(Float(0.1)) && rounded.doubles[1] == .infinity)
    #expect(rounded.doubles[2].isNaN)
    #expect(try Self.whole(.uint8, [0, 1]).fitted(to: .bool, name: "a").integers == [0, 1])
    let empty = Tensor(zeros: .float64, [0, 3])
    #expect(try empty.fitted(to: .int8, name: "a").shape == [0, 3])
  }

  @Test(arguments: [
    (real(.float64, [1, 2.5]), DataType.int32, "[1]"), (real(.float32, [.nan]), .int64, "nan"),
    (real(.float64, [1e30]), .int64, "1e+30"), (real(.float64, [-1]), .uint8, "-1.0"),
    (real(.float64, [0x1p64]), .uint64, "[0]"), (real(.float64, [-.infinity]), .int8, "-inf"),
    (whole(.int64, [5, 300]), .int8, "300"), (whole(.int64, [-1]), .uint64, "-1"),
    (whole(.uint64, [-1]), .int64, "18446744073709551615"), (whole(.int8, [2]), .bool, "2"),
    (whole(.int64, [1 << 53 + 1]), .float64, "9007199254740993"),
    (whole(.int64, [.max]), .float64, "9223372036854775807"),
    (whole(.int32, [16_777_217]), .float32, "16777217"), (real(.float64, [1e300]), .float32, "1e+300"),
    (real(.float32, [1e6]), .float16, "1000000.0"),
  ]) func whatDoesNotFitIsNamed(_ tensor: Tensor, _ type: DataType, _ words: String) {
    let error = #expect(throws: DLCError.self) { try tensor.fitted(to: type, name: "a") }
    #expect(error?.code == .binding && "\(error!)".contains(words), "\(error!)")
    #expect("\(error!)".contains("'a'") && "\(error!)".contains("\(type)"))
  }

  @Test func theFirstOneIsNamedByItsPlace() {
    var values = [Double](repeating: 1, count: 30_000)
    values[20_003] = 0.5
    values[20_004] = 0.25
    let tensor = Tensor(.float64, [3, 100, 100], rounding: values)
    let error = #expect(throws: DLCError.self) { try tensor.fitted(to: .int32, name: "a") }
    #expect("\(error!)".contains("element [2, 0, 3] of 'a' is 0.5"), "\(error!)")
  }
}

/// What is left of memory under limits.
@Suite struct AvailableMemoryTests {
  static func machine(_ membership: String, _ files: [String: String]) throws -> AvailableMemory {
    let root = FileManager.default.temporaryDirectory.path + "/groups-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
    for (name, text) in files {
      let path = "\(root)/\(name)"
      try FileManager.default.createDirectory(
        atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
      try text.write(toFile: path, atomically: true, encoding: .utf8)
    }
    try membership.write(toFile: "\(root)/membership", atomically: true, encoding: .utf8)
    var memory = AvailableMemory()
    memory.groups = root
    memory.membership = "\(root)/membership"
    return memory
  }

  @Test func controlGroupsBound() throws {
    let new = try Self.machine(
      "0::/a/b\n",
      [
        "a/memory.max": "5000000\n", "a/memory.current": "1000000\n",
        "a/b/memory.max": "3000000\n", "a/b/memory.current": "900000\n",
        "a/b/memory.stat": "anon 1\ninactive_file 300000\nactive_file 100000\n",
      ])
    // The pages of files are given back.
    #expect(new.total == 3_000_000 - 500_000)
    let around = try Self.machine(
      "0::/a/b\n",
      [
        "a/memory.max": "2000000", "a/memory.current": "1999999", "a/b/memory.max": "max",
        "a/b/memory.current": "900000",
      ])
    #expect(around.total == 1)
    let old = try Self.machine(
      "5:cpu:/x\n4:memory:/docker/1\n",
      [
        "memory/docker/1/memory.limit_in_bytes": "700000",
        "memory/docker/1/memory.usage_in_bytes": "200000",
        "memory/docker/1/memory.stat": "total_inactive_file 50000\n",
      ])
    #expect(old.total == 550_000)
    // A container sees its own group as the root, whatever it is called outside.
    let inside = try Self.machine(
      "4:memory:/docker/unseen\n",
      ["memory/memory.limit_in_bytes": "900", "memory/memory.usage_in_bytes": "100"])
    #expect(inside.total == 800)
    #expect(try Self.machine("", [:]).total > 1 << 20)
  }

  @Test func whatCannotBeHadIsAnError() {
    let error = #expect(throws: DLCError.self) {
      try Tensor(reserving: .float64, [1 << 40], for: "array 'huge'")
    }
    #expect(error?.code == .memory && "\(error!)".contains("'huge'"))
  }
}
