/* The nursery/stub executable, carried inside the extension module. */
    .section .rodata
    .globl uvm_stub_image_start, uvm_stub_image_end
    .hidden uvm_stub_image_start
    .hidden uvm_stub_image_end
    .balign 16
uvm_stub_image_start:
    .incbin UVM_STUB_IMAGE
uvm_stub_image_end:
    .section .note.GNU-stack,"",@progbits
