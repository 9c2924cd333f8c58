package import DLCTensor

/// A compile-time property of an operation.
package struct Attribute: Hashable, Sendable {
  package enum Value: Hashable, Sendable {
    case integer(Int)
    case real(Double)
    case text(String)
    case flag(Bool)
    case type(DataType)
    case integers([Int])
    case dimensions([Size])
    case tensor(Tensor)
  }
  package var name: String
  package var value: Value

  package init(_ name: String, _ value: Value) {
    self.name = name
    self.value = value
  }
}

/// Takes the attributes of an operation one by one; an operation must take all that it is given.
package struct AttributeReader {
  private var remaining: [String: Attribute.Value]
  private var regions: [Graph]

  package init(_ attributes: [Attribute], _ regions: [Graph]) throws(DLCError) {
    self.regions = regions
    remaining = [:]
    for attribute in attributes {
      guard remaining.updateValue(attribute.value, forKey: attribute.name) == nil else {
        throw DLCError(.graph, "attribute '\(attribute.name)' is given twice")
      }
    }
  }

  private mutating func take<T>(
    _ name: String, _ kind: String, _ extract: (Attribute.Value) -> T?
  ) throws(DLCError) -> T {
    guard let value = remaining.removeValue(forKey: name) else {
      throw DLCError(.graph, "attribute '\(name)' is missing")
    }
    guard let result = extract(value) else {
      throw DLCError(.graph, "attribute '\(name)' is not \(kind)")
    }
    return result
  }

  package mutating func integer(_ name: String) throws(DLCError) -> Int {
    try take(name, "an integer") { if case .integer(let v) = $0 { v } else { nil } }
  }
  package mutating func text(_ name: String) throws(DLCError) -> String {
    try take(name, "a string") { if case .text(let v) = $0 { v } else { nil } }
  }
  package mutating func type(_ name: String) throws(DLCError) -> DataType {
    try take(name, "an element type") { if case .type(let v) = $0 { v } else { nil } }
  }
  /// nil when it is not given.
  package mutating func optionalType(_ name: String) throws(DLCError) -> DataType? {
    remaining[name] == nil ? nil : try type(name)
  }
  package mutating func flag(_ name: String) throws(DLCError) -> Bool {
    try take(name, "true or false") { if case .flag(let v) = $0 { v } else { nil } }
  }
  /// A flag that is left out where it is `other`.
  package mutating func flag(_ name: String, otherwise other: Bool) throws(DLCError) -> Bool {
    remaining[name] == nil ? other : try flag(name)
  }
  package mutating func dimension(_ name: String) throws(DLCError) -> Size {
    let list = try dimensions(name)
    guard list.count == 1 else {
      throw DLCError(.graph, "attribute '\(name)' is not one dimension")
    }
    return list[0]
  }
  /// The next region.
  package mutating func region() throws(DLCError) -> Graph {
    guard !regions.isEmpty else { throw DLCError(.graph, "a region is missing") }
    return regions.removeFirst()
  }
  package mutating func integers(_ name: String) throws(DLCError) -> [Int] {
    try take(name, "a list of integers") { if case .integers(let v) = $0 { v } else { nil } }
  }
  /// A list that is left out where it is `other`.
  package mutating func integers(_ name: String, otherwise other: [Int]) throws(DLCError) -> [Int] {
    remaining[name] == nil ? other : try integers(name)
  }
  package mutating func dimensions(_ name: String) throws(DLCError) -> [Size] {
    try take(name, "a list of dimensions") {
      switch $0 {
      case .dimensions(let v): v
      case .integers(let v): v.map { Size($0) }
      default: nil
      }
    }
  }
  package mutating func tensor(_ name: String) throws(DLCError) -> Tensor {
    try take(name, "a tensor") { if case .tensor(let v) = $0 { v } else { nil } }
  }
  package mutating func choice<C: RawRepresentable<String>>(_ name: String, _: C.Type)
    throws(DLCError) -> C
  {
    let text = try text(name)
    guard let value = C(rawValue: text) else {
      throw DLCError(.graph, "attribute '\(name)' has no choice '\(text)'")
    }
    return value
  }

  package func finish() throws(DLCError) {
    if let name = remaining.keys.min() {
      throw DLCError(.graph, "attribute '\(name)' is not known to this operation")
    }
    guard regions.isEmpty else { throw DLCError(.graph, "there are more regions than it takes") }
  }
}
