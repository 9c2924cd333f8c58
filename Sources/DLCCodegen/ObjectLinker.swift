package import DLCTensor

/// Machine code that runs wherever it is mapped: all relocations are resolved inside it.
package struct CodeImage: Sendable {
  package var bytes: [UInt8]
  /// The bytes of each function.
  package var symbols: [String: Range<Int>]
}

/// Lays the code and read-only data of ELF objects into one image and resolves the references
/// between them. Only position-relative relocations are accepted, so that the image needs no
/// treatment when it is loaded.
package struct ObjectLinker {
  private struct Section {
    var name: Int
    var type: Int
    var flags: Int
    var offset: Int
    var size: Int
    var link: Int
    var info: Int
    var alignment: Int
    var entrySize: Int
  }

  private var image: [UInt8] = []
  private var symbols: [String: Range<Int>] = [:]
  private var pending:
    [(object: Int, place: Int, type: Int, symbol: SymbolReference, addend: Int)] = []
  private enum SymbolReference {
    case offset(Int)
    case named(String)
  }

  package static func link(_ objects: [[UInt8]]) throws(DLCError) -> CodeImage {
    var linker = ObjectLinker()
    for (number, object) in objects.enumerated() { try linker.add(object, number) }
    try linker.resolve()
    return CodeImage(bytes: linker.image, symbols: linker.symbols)
  }

  private static func failure(_ message: String) -> DLCError {
    DLCError(.code, message, at: "linking generated code")
  }

  private mutating func add(_ object: [UInt8], _ number: Int) throws(DLCError) {
    func read(_ at: Int, _ size: Int) -> Int {
      (0..<size).reduce(0) { $0 | Int(object[at + $1]) << (8 * $1) }
    }
    guard object.count > 64, object[0..<4].elementsEqual([0x7f, 0x45, 0x4c, 0x46]) else {
      throw Self.failure("the object is not ELF")
    }
    let machine = read(18, 2)
    let (table, entry, count) = (read(40, 8), read(58, 2), read(60, 2))
    let sections = (0..<count).map { index -> Section in
      let at = table + index * entry
      return Section(
        name: read(at, 4), type: read(at + 4, 4), flags: read(at + 8, 8), offset: read(at + 24, 8),
        size: read(at + 32, 8), link: read(at + 40, 4), info: read(at + 44, 4),
        alignment: read(at + 48, 8), entrySize: read(at + 56, 8))
    }
    // Code and constants (allocated, program bits) get a place; relocatable sections keep an order.
    var places: [Int: Int] = [:]
    for (index, section) in sections.enumerated()
    where section.type == 1 && section.flags & 2 != 0 && section.size > 0 {
      let alignment = max(section.alignment, 64)
      while image.count % alignment != 0 { image.append(section.flags & 4 != 0 ? 0xcc : 0) }
      places[index] = image.count
      image += object[section.offset..<section.offset + section.size]
    }
    func string(_ table: Section, _ at: Int) -> String {
      let start = table.offset + at
      let end = object[start...].firstIndex(of: 0)!
      return String(decoding: object[start..<end], as: UTF8.self)
    }
    var references: [Int: SymbolReference] = [:]
    for section in sections where section.type == 2 {
      for index in 0..<section.size / 24 {
        let at = section.offset + index * 24
        let (home, value, binding) = (read(at + 6, 2), read(at + 8, 8), Int(object[at + 4]) >> 4)
        let name = string(sections[section.link], read(at, 4))
        if home != 0, let place = places[home] {
          references[index] = .offset(place + value)
          if binding != 0, !name.isEmpty {
            symbols[name] = place + value..<place + value + read(at + 16, 8)
          }
        } else {
          references[index] = .named(name)
        }
      }
    }
    for section in sections where section.type == 4 {
      guard let base = places[section.info] else { continue }
      for index in 0..<section.size / 24 {
        let at = section.offset + index * 24
        let info = read(at + 8, 8)
        guard let symbol = references[info >> 32] else {
          throw Self.failure("a relocation has no symbol")
        }
        pending.append((machine, base + read(at, 8), info & 0xffff_ffff, symbol, read(at + 16, 8)))
      }
    }
  }

  private mutating func resolve() throws(DLCError) {
    for (machine, place, type, symbol, addend) in pending {
      let target: Int
      switch symbol {
      case .offset(let offset): target = offset
      case .named(let name):
        guard let offset = symbols[name]?.lowerBound else {
          throw Self.failure("the code needs '\(name)', which is not part of it")
        }
        target = offset
      }
      let distance = target + addend - place
      func patch(_ mask: UInt32, _ bits: UInt32) {
        var word = (0..<4).reduce(UInt32(0)) { $0 | UInt32(image[place + $1]) << (8 * UInt32($1)) }
        word = word & ~mask | bits & mask
        for byte in 0..<4 {
          image[place + byte] = UInt8(truncatingIfNeeded: word >> (8 * UInt32(byte)))
        }
      }
      switch (machine, type) {
      case (62, 2), (62, 4):  // R_X86_64_PC32, PLT32
        patch(.max, UInt32(truncatingIfNeeded: distance))
      case (183, 261):  // R_AARCH64_PREL32
        patch(.max, UInt32(truncatingIfNeeded: distance))
      case (183, 282), (183, 283):  // JUMP26, CALL26
        patch(0x03ff_ffff, UInt32(truncatingIfNeeded: distance >> 2))
      case (183, 275):  // ADR_PREL_PG_HI21: images are mapped at page boundaries
        let pages = ((target + addend) >> 12) - (place >> 12)
        let bits = UInt32(truncatingIfNeeded: pages)
        patch(0x60ff_ffe0, (bits & 3) << 29 | (bits >> 2 & 0x7ffff) << 5)
      case (183, 277):
        patch(0x003f_fc00, UInt32(truncatingIfNeeded: (target + addend) & 0xfff) << 10)
      case (183, 284):
        patch(0x003f_fc00, UInt32(truncatingIfNeeded: ((target + addend) & 0xfff) >> 1) << 10)
      case (183, 285):
        patch(0x003f_fc00, UInt32(truncatingIfNeeded: ((target + addend) & 0xfff) >> 2) << 10)
      case (183, 286):
        patch(0x003f_fc00, UInt32(truncatingIfNeeded: ((target + addend) & 0xfff) >> 3) << 10)
      case (183, 299):
        patch(0x003f_fc00, UInt32(truncatingIfNeeded: ((target + addend) & 0xfff) >> 4) << 10)
      default: throw Self.failure("relocation type \(type) of machine \(machine) is not supported")
      }
    }
  }
}
