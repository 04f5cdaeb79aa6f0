// cuTexObject* and cuSurfObject*.
#include "device/texture.h"

#include "api/entry.h"

using namespace softgpu;

extern "C" CUresult CUDAAPI cuTexObjectCreate(CUtexObject* pTexObject, const CUDA_RESOURCE_DESC* pResDesc,
                                              const CUDA_TEXTURE_DESC* pTexDesc,
                                              const CUDA_RESOURCE_VIEW_DESC* pResViewDesc) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(pTexObject && pResDesc && pTexDesc, "an argument is NULL");
        TextureDescriptors descriptors{.resource = *pResDesc, .texture = *pTexDesc, .view = std::nullopt};
        if (pResViewDesc) descriptors.view = *pResViewDesc;
        *pTexObject = publish(std::make_shared<TextureObject>(descriptors));
        context.adopt(*pTexObject);
    });
}

extern "C" CUresult CUDAAPI cuTexObjectDestroy(CUtexObject texObject) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        require<TextureObject>(texObject);
        withdraw<TextureObject>(texObject);
        context.disown(texObject);
    });
}

extern "C" CUresult CUDAAPI cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC* pResDesc, CUtexObject texObject) {
    return entry(__func__, [&] {
        check_value(pResDesc, "pResDesc is NULL");
        *pResDesc = require<TextureObject>(texObject)->descriptors.resource;
    });
}

extern "C" CUresult CUDAAPI cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC* pTexDesc, CUtexObject texObject) {
    return entry(__func__, [&] {
        check_value(pTexDesc, "pTexDesc is NULL");
        *pTexDesc = require<TextureObject>(texObject)->descriptors.texture;
    });
}

extern "C" CUresult CUDAAPI cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC* pResViewDesc,
                                                           CUtexObject texObject) {
    return entry(__func__, [&] {
        const auto& view = require<TextureObject>(texObject)->descriptors.view;
        check_value(pResViewDesc && view, "pResViewDesc is NULL, or the texture has no view");
        *pResViewDesc = *view;
    });
}

extern "C" CUresult CUDAAPI cuSurfObjectCreate(CUsurfObject* pSurfObject, const CUDA_RESOURCE_DESC* pResDesc) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        check_value(pSurfObject && pResDesc, "an argument is NULL");
        *pSurfObject = publish(std::make_shared<SurfaceObject>(*pResDesc));
        context.adopt(*pSurfObject);
    });
}

extern "C" CUresult CUDAAPI cuSurfObjectDestroy(CUsurfObject surfObject) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        require<SurfaceObject>(surfObject);
        withdraw<SurfaceObject>(surfObject);
        context.disown(surfObject);
    });
}

extern "C" CUresult CUDAAPI cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC* pResDesc, CUsurfObject surfObject) {
    return entry(__func__, [&] {
        check_value(pResDesc, "pResDesc is NULL");
        *pResDesc = require<SurfaceObject>(surfObject)->resource;
    });
}
